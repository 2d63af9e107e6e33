//! What must survive a crash: tasks and their journal, invitations, certificates, known nodes. SQLite, and every
//! change is on the disk before it is acted on (`synchronous=FULL`).

use crate::dirs::Dirs;
use crate::peers::Peer;
use crate::protection::Terms;
use crate::restart::Restarted;
use crate::spec::Spec;
use crate::unix_now;
use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wayfare_transfer::TaskId;
use wayfare_transfer::identity::Revocations;
use wayfare_transfer::journal::Record;

/// The database.
pub struct Db(Mutex<Connection>);

/// A task as it is written down.
pub struct Row {
    /// What to run.
    pub spec: Spec,
    /// Whose it is.
    pub record: Record,
    /// How it ended, if it has.
    pub ended: Option<String>,
}

/// What was known of a task that may come, as it is written down; nothing, as a rule.
pub struct Before(Option<(String, String, Option<String>)>);

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS tasks (
    id BLOB PRIMARY KEY, spec TEXT NOT NULL, record TEXT NOT NULL, ended TEXT, changed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invitations (
    id BLOB PRIMARY KEY, secret BLOB NOT NULL, expires INTEGER NOT NULL, used_by TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS certificates (
    serial INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key BLOB NOT NULL, not_after INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS revocations (only INTEGER PRIMARY KEY CHECK (only = 0), list BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS peers (
    name TEXT PRIMARY KEY, address TEXT NOT NULL, isa TEXT NOT NULL, seen INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS restarts (name TEXT PRIMARY KEY, restarted TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS standbys (id BLOB, node TEXT, terms TEXT NOT NULL, PRIMARY KEY (id, node)) WITHOUT ROWID;
";

/// The version of the tables.
const VERSION: i64 = 1;

impl Db {
    /// Opens or makes it.
    ///
    /// # Errors
    /// When it cannot be used, or is of a newer version.
    pub fn open(dirs: &Dirs) -> Result<Db> {
        let path = dirs.file("node.db");
        let open = || -> Result<Connection> {
            let db = Connection::open(&path)?;
            db.busy_timeout(std::time::Duration::from_secs(5))?;
            db.pragma_update(None, "journal_mode", "wal")?;
            db.pragma_update(None, "synchronous", "full")?;
            let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            anyhow::ensure!(version <= VERSION, "it is of a newer version of Wayfare");
            db.execute_batch(SCHEMA)?;
            db.pragma_update(None, "user_version", VERSION)?;
            Ok(db)
        };
        let db = open().with_context(|| format!("cannot use {}", path.display()))?;
        Ok(Db(Mutex::new(db)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a new task down, or one that has come back.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_task(&self, spec: &Spec, record: &Record) -> Result<()> {
        let (spec_text, record) = (serde_json::to_string(spec)?, serde_json::to_string(record)?);
        self.lock().execute(
            "INSERT INTO tasks (id, spec, record, changed) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET spec = ?2, record = ?3, ended = NULL, changed = ?4",
            params![spec.id.0, spec_text, record, unix_now()],
        )?;
        Ok(())
    }

    /// Writes down that a task may come here at this epoch; gives what was known of it before.
    ///
    /// # Errors
    /// When the disk does not take it: nothing has changed then.
    pub fn expect_task(&self, spec: &Spec, epoch: u64) -> Result<Before> {
        let columns = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let before = {
            let db = self.lock();
            let mut query = db.prepare("SELECT spec, record, ended FROM tasks WHERE id = ?1")?;
            query.query_row(params![spec.id.0], columns).optional()?
        };
        self.put_task(spec, &Record::Taken { epoch })?;
        Ok(Before(before))
    }

    /// Takes that back: it did not come.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_back(&self, id: TaskId, before: Before) -> Result<()> {
        let db = self.lock();
        match before.0 {
            Some((spec, record, ended)) => db.execute(
                "UPDATE tasks SET spec = ?2, record = ?3, ended = ?4, changed = ?5 WHERE id = ?1",
                params![id.0, spec, record, ended, unix_now()],
            ),
            None => db.execute("DELETE FROM tasks WHERE id = ?1", params![id.0]),
        }?;
        Ok(())
    }

    /// Writes down whose the task is now.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_record(&self, id: TaskId, record: &Record) -> Result<()> {
        let text = serde_json::to_string(record)?;
        let db = self.lock();
        let changed =
            db.execute("UPDATE tasks SET record = ?2, changed = ?3 WHERE id = ?1", params![id.0, text, unix_now()])?;
        if changed == 0 {
            // A promise about a task that was never here.
            db.execute(
                "INSERT INTO tasks (id, spec, record, changed) VALUES (?1, '', ?2, ?3)",
                params![id.0, text, unix_now()],
            )?;
        }
        Ok(())
    }

    /// Writes down how it ended.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_ended(&self, id: TaskId, how: &str, record: &Record) -> Result<()> {
        let record = serde_json::to_string(record)?;
        self.lock().execute(
            "UPDATE tasks SET ended = ?2, record = ?3, changed = ?4 WHERE id = ?1",
            params![id.0, how, record, unix_now()],
        )?;
        Ok(())
    }

    /// The record of a task.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn record(&self, id: TaskId) -> Result<Option<Record>> {
        let db = self.lock();
        let text: Option<String> =
            db.query_row("SELECT record FROM tasks WHERE id = ?1", params![id.0], |row| row.get(0)).optional()?;
        Ok(text.map(|t| serde_json::from_str(&t)).transpose()?)
    }

    /// All tasks that have ever been here and were not removed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tasks(&self) -> Result<Vec<Row>> {
        let db = self.lock();
        let mut query = db.prepare("SELECT spec, record, ended FROM tasks WHERE spec <> ''")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
        })?;
        let mut out = Vec::new();
        for row in rows {
            let (spec, record, ended) = row?;
            out.push(Row { spec: serde_json::from_str(&spec)?, record: serde_json::from_str(&record)?, ended });
        }
        Ok(out)
    }

    /// Forgets what a task was, but not whose it is: questions about it must go on having one answer.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn remove_task(&self, id: TaskId) -> Result<()> {
        self.lock().execute("UPDATE tasks SET spec = '', ended = NULL WHERE id = ?1", params![id.0])?;
        Ok(())
    }

    /// Notes an invitation.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn invite(&self, id: &[u8; 8], secret_hash: &[u8; 32], expires: u64) -> Result<()> {
        self.lock().execute(
            "INSERT INTO invitations (id, secret, expires) VALUES (?1, ?2, ?3)",
            params![id, secret_hash, expires],
        )?;
        Ok(())
    }

    /// Uses up an invitation, if it is there, not expired and not used.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn redeem(&self, id: &[u8; 8], secret_hash: &[u8; 32], name: &str) -> Result<bool> {
        // One statement: of two that come with the same token, one finds it used. Hashes are compared, so that the
        // time this takes says nothing about the secret.
        let changed = self.lock().execute(
            "UPDATE invitations SET used_by = ?3 WHERE id = ?1 AND secret = ?2 AND used_by IS NULL AND expires > ?4",
            params![id, secret_hash, name, unix_now()],
        )?;
        Ok(changed == 1)
    }

    /// Whether a certificate that holds has this name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn serials_of(&self, name: &str) -> Result<Vec<u64>> {
        let db = self.lock();
        let mut query = db.prepare("SELECT serial FROM certificates WHERE name = ?1 AND not_after > ?2")?;
        let serials = query.query_map(params![name, unix_now()], |row| row.get(0))?;
        Ok(serials.collect::<rusqlite::Result<_>>()?)
    }

    /// The next serial, for this name and key.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn certify(&self, name: &str, key: &[u8; 32], not_after: u64) -> Result<u64> {
        let db = self.lock();
        db.execute(
            "INSERT INTO certificates (name, key, not_after) VALUES (?1, ?2, ?3)",
            params![name, key, not_after],
        )?;
        Ok(db.last_insert_rowid() as u64)
    }

    /// What is revoked.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn revocations(&self) -> Result<Revocations> {
        let db = self.lock();
        let bytes: Option<Vec<u8>> = db.query_row("SELECT list FROM revocations", [], |row| row.get(0)).optional()?;
        Ok(bytes.map(|b| postcard::from_bytes(&b)).transpose()?.unwrap_or_default())
    }

    /// Writes down what is revoked.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_revocations(&self, list: &Revocations) -> Result<()> {
        let bytes = postcard::to_allocvec(list)?;
        self.lock().execute(
            "INSERT INTO revocations (only, list) VALUES (0, ?1) ON CONFLICT (only) DO UPDATE SET list = ?1",
            params![bytes],
        )?;
        Ok(())
    }

    /// Notes where a node was seen.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_peer(&self, peer: &Peer) -> Result<()> {
        self.lock().execute(
            "INSERT INTO peers (name, address, isa, seen) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET address = ?2, isa = ?3, seen = ?4 WHERE seen <= ?4",
            params![peer.name, peer.address, peer.isa, peer.seen],
        )?;
        Ok(())
    }

    /// Forgets a node.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn remove_peer(&self, name: &str) -> Result<()> {
        let db = self.lock();
        db.execute("DELETE FROM peers WHERE name = ?1", params![name])?;
        db.execute("DELETE FROM restarts WHERE name = ?1", params![name])?;
        Ok(())
    }

    /// Notes that a task has a standby.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_standby(&self, id: TaskId, terms: &Terms) -> Result<()> {
        self.lock().execute(
            "INSERT INTO standbys (id, node, terms) VALUES (?1, ?2, ?3) ON CONFLICT (id, node) DO UPDATE SET terms = ?3",
            params![id.0, terms.standby, serde_json::to_string(terms)?],
        )?;
        Ok(())
    }

    /// The standbys that a task had.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn standbys(&self, id: TaskId) -> Result<Vec<Terms>> {
        let db = self.lock();
        let mut find = db.prepare("SELECT terms FROM standbys WHERE id = ?1")?;
        let all = find.query_map([id.0], |row| row.get::<_, String>(0))?;
        all.map(|text| Ok(serde_json::from_str(&text?)?)).collect()
    }

    /// Notes that a task does not have this standby; or none.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn remove_standby(&self, id: TaskId, node: Option<&str>) -> Result<()> {
        self.lock().execute("DELETE FROM standbys WHERE id = ?1 AND (?2 IS NULL OR node = ?2)", params![id.0, node])?;
        Ok(())
    }

    /// Notes that a node was reset, and why.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn put_restart(&self, name: &str, restarted: &Restarted) -> Result<()> {
        self.lock().execute(
            "INSERT INTO restarts (name, restarted) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET restarted = ?2",
            params![name, serde_json::to_string(restarted)?],
        )?;
        Ok(())
    }

    /// When a node was last reset, and why, if it has told that.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn restart(&self, name: &str) -> Result<Option<Restarted>> {
        let db = self.lock();
        let find = "SELECT restarted FROM restarts WHERE name = ?1";
        let text: Option<String> = db.query_row(find, [name], |row| row.get(0)).optional()?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// The nodes that were seen.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn peers(&self) -> Result<Vec<Peer>> {
        let db = self.lock();
        let mut query = db.prepare("SELECT name, address, isa, seen FROM peers ORDER BY name")?;
        let peers = query.query_map([], |row| {
            Ok(Peer { name: row.get(0)?, address: row.get(1)?, isa: row.get(2)?, seen: row.get(3)? })
        })?;
        Ok(peers.collect::<rusqlite::Result<_>>()?)
    }
}
