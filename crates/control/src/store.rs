//! What the controller must not forget: sets, tasks and what has become of them, nodes' labels, run times, tokens. SQLite, each
//! change on the disk before anybody hears of it.

use crate::task::{Set, Task};
use crate::trace::Place;
use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};
use std::path::Path;
use wayfare_api::{Moment, Objective, Role, TaskRequest, TaskState, TaskView};
use wayfare_transfer::TaskId;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS sets (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, objective TEXT NOT NULL, submitted INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, in_set TEXT NOT NULL, request TEXT NOT NULL, state TEXT NOT NULL,
    id BLOB NOT NULL, attempt INTEGER NOT NULL, node TEXT, why TEXT NOT NULL, cancelled INTEGER NOT NULL, estimate REAL,
    submitted INTEGER NOT NULL, started INTEGER, ended INTEGER, status INTEGER, standby TEXT
);
CREATE TABLE IF NOT EXISTS replaced (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nodes (name TEXT PRIMARY KEY, cordoned INTEGER NOT NULL, labels TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (image TEXT NOT NULL, args TEXT NOT NULL, seconds REAL NOT NULL);
CREATE TABLE IF NOT EXISTS controller (salt BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
    name TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, role TEXT NOT NULL, expires INTEGER, share REAL NOT NULL DEFAULT 1
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS moments (
    number INTEGER NOT NULL, at INTEGER NOT NULL, state TEXT NOT NULL, node TEXT, why TEXT NOT NULL, attempt INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS moments_of ON moments (number);
CREATE TABLE IF NOT EXISTS snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT, number INTEGER NOT NULL, node TEXT NOT NULL, at INTEGER NOT NULL, bytes INTEGER NOT NULL,
    done REAL NOT NULL, by_hand INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS snapshots_of ON snapshots (number);
CREATE TABLE IF NOT EXISTS resumed (number INTEGER PRIMARY KEY, snapshot INTEGER NOT NULL, done REAL NOT NULL);
";

/// What tables of version 1 lack.
const SINCE_1: &str = "
ALTER TABLE tasks ADD COLUMN standby TEXT;
ALTER TABLE tokens ADD COLUMN expires INTEGER;
UPDATE tokens SET role = CASE role WHEN 'read' THEN 'view' WHEN 'submit' THEN 'operate' ELSE role END;
";

/// What those of version 2 lack.
const SINCE_2: &str = "ALTER TABLE tokens ADD COLUMN share REAL NOT NULL DEFAULT 1;";

/// The version of the tables.
const VERSION: i64 = 3;

/// The database.
pub(crate) struct Store(Connection);

/// Whose word counts.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) name: String,
    /// BLAKE3 of the token.
    pub(crate) hash: [u8; 32],
    pub(crate) role: Role,
    /// Milliseconds since 1970.
    pub(crate) expires: Option<u64>,
    /// Its part of the cluster against that of others.
    pub(crate) share: f64,
}

/// A snapshot of a task that is kept: its files have its number.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: u64,
    /// Of its task.
    pub(crate) number: u64,
    pub(crate) node: String,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    /// Seconds of work, at speed 1, that are in it.
    pub(crate) done: f64,
    pub(crate) by_hand: bool,
}

/// What a task went on from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Resumed {
    /// Its number.
    pub(crate) snapshot: u64,
    /// See there.
    pub(crate) done: f64,
}

/// A node, as its owner has it.
#[derive(Clone, Default)]
pub(crate) struct Marks {
    pub(crate) cordoned: bool,
    pub(crate) labels: Vec<String>,
}

impl Store {
    /// Opens or makes it.
    ///
    /// # Errors
    /// When it cannot be used, or is of a newer version.
    pub(crate) fn open(path: &Path) -> Result<Store> {
        let open = || -> Result<Connection> {
            let db = Connection::open(path)?;
            db.busy_timeout(std::time::Duration::from_secs(5))?;
            db.pragma_update(None, "journal_mode", "wal")?;
            db.pragma_update(None, "synchronous", "full")?;
            let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
            ensure!(version <= VERSION, "it is of a newer version of Wayfare");
            // Together, or not at all: what was begun once cannot be done again.
            db.execute_batch("BEGIN IMMEDIATE")?;
            db.execute_batch(SCHEMA)?;
            if version == 1 {
                db.execute_batch(SINCE_1)?;
            }
            if (1..3).contains(&version) {
                db.execute_batch(SINCE_2)?;
            }
            db.pragma_update(None, "user_version", VERSION)?;
            db.execute_batch("COMMIT")?;
            Ok(db)
        };
        Ok(Store(open().with_context(|| format!("the controller's database {} cannot be used", path.display()))?))
    }

    /// What makes the identities of this controller's tasks others than those of any other.
    pub(crate) fn salt(&self) -> Result<[u8; 16]> {
        let make = "INSERT INTO controller (salt) SELECT randomblob(16) WHERE NOT EXISTS (SELECT 1 FROM controller)";
        self.0.execute(make, [])?;
        Ok(self.0.query_row("SELECT salt FROM controller", [], |row| row.get(0))?)
    }

    /// All that is written from here on counts together, or not at all.
    pub(crate) fn begin(&self) -> Result<()> {
        Ok(self.0.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(crate) fn commit(&self) -> Result<()> {
        Ok(self.0.execute_batch("COMMIT")?)
    }

    pub(crate) fn put_set(&self, set: &Set) -> Result<()> {
        let objective = serde_json::to_string(&set.objective)?;
        let mut put =
            self.0.prepare_cached("INSERT INTO sets (name, owner, objective, submitted) VALUES (?1, ?2, ?3, ?4)")?;
        put.execute(params![set.name, set.owner, objective, set.submitted])?;
        Ok(())
    }

    pub(crate) fn put_task(&self, task: &Task) -> Result<()> {
        let mut put = self.0.prepare_cached(
            "INSERT INTO tasks (number, name, in_set, request, state, id, attempt, node, why, estimate, submitted, started, ended, status, cancelled, standby)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
             ON CONFLICT (number) DO UPDATE SET state = ?5, id = ?6, attempt = ?7, node = ?8, why = ?9, estimate = ?10,
             started = ?12, ended = ?13, status = ?14, cancelled = ?15, standby = ?16",
        )?;
        put.execute(params![
            task.number,
            task.name,
            task.set,
            serde_json::to_string(&*task.request)?,
            serde_json::to_string(&task.state)?,
            task.id.0,
            task.attempt,
            task.node,
            task.why,
            task.estimate,
            task.submitted,
            task.started,
            task.ended,
            task.status,
            task.cancelled,
            task.standby,
        ])?;
        Ok(())
    }

    /// A task goes on under another identity: whoever still has this one is to stop it.
    pub(crate) fn put_replaced(&self, id: TaskId) -> Result<()> {
        self.0.prepare_cached("INSERT OR IGNORE INTO replaced (id) VALUES (?1)")?.execute([id.0])?;
        Ok(())
    }

    pub(crate) fn is_replaced(&self, id: TaskId) -> Result<bool> {
        Ok(self.0.prepare_cached("SELECT 1 FROM replaced WHERE id = ?1")?.exists([id.0])?)
    }

    pub(crate) fn remove_task(&self, number: u64) -> Result<()> {
        self.0.prepare_cached("DELETE FROM tasks WHERE number = ?1")?.execute([number])?;
        for table in ["moments", "snapshots", "resumed"] {
            self.0.prepare_cached(&format!("DELETE FROM {table} WHERE number = ?1"))?.execute([number])?;
        }
        Ok(())
    }

    /// Writes a snapshot down that is on the disk.
    pub(crate) fn put_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        let mut put = self.0.prepare_cached(
            "INSERT INTO snapshots (id, number, node, at, bytes, done, by_hand) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let Snapshot { id, number, node, at, bytes, done, by_hand } = snapshot;
        put.execute(params![id, number, node, at, bytes, done, by_hand])?;
        Ok(())
    }

    pub(crate) fn remove_snapshot(&self, id: u64) -> Result<()> {
        self.0.prepare_cached("DELETE FROM snapshots WHERE id = ?1")?.execute([id])?;
        Ok(())
    }

    /// All, the earliest first.
    pub(crate) fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let mut find =
            self.0.prepare("SELECT id, number, node, at, bytes, done, by_hand FROM snapshots ORDER BY id")?;
        let all = find.query_map([], |row| {
            Ok(Snapshot {
                id: row.get(0)?,
                number: row.get(1)?,
                node: row.get(2)?,
                at: row.get(3)?,
                bytes: row.get(4)?,
                done: row.get(5)?,
                by_hand: row.get(6)?,
            })
        })?;
        Ok(all.collect::<Result<_, _>>()?)
    }

    /// The number of the next snapshot: none that any has ever had.
    pub(crate) fn next_snapshot(&self) -> Result<u64> {
        let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'snapshots'";
        Ok(self.0.query_row(last, [], |row| row.get::<_, u64>(0))? + 1)
    }

    /// A task goes on from a snapshot when it is started next, or again; or from its beginning.
    pub(crate) fn put_resumed(&self, number: u64, from: Option<Resumed>) -> Result<()> {
        match from {
            Some(Resumed { snapshot, done }) => {
                let put = "INSERT OR REPLACE INTO resumed (number, snapshot, done) VALUES (?1, ?2, ?3)";
                self.0.prepare_cached(put)?.execute(params![number, snapshot, done])?
            }
            None => self.0.prepare_cached("DELETE FROM resumed WHERE number = ?1")?.execute([number])?,
        };
        Ok(())
    }

    pub(crate) fn remove_set(&self, name: &str) -> Result<()> {
        self.0.prepare_cached("DELETE FROM sets WHERE name = ?1")?.execute([name])?;
        Ok(())
    }

    pub(crate) fn sets(&self) -> Result<Vec<Set>> {
        let mut find = self.0.prepare("SELECT name, owner, objective, submitted FROM sets")?;
        let mut rows = find.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let objective: Objective = serde_json::from_str(&row.get::<_, String>(2)?)?;
            all.push(Set { name: row.get(0)?, owner: row.get(1)?, objective, submitted: row.get(3)? });
        }
        Ok(all)
    }

    pub(crate) fn tasks(&self) -> Result<Vec<Task>> {
        let mut find = self.0.prepare(
            "SELECT tasks.number, name, in_set, request, state, id, attempt, node, why, estimate, submitted, started, ended, status, cancelled,
             standby, snapshot, done FROM tasks LEFT JOIN resumed ON resumed.number = tasks.number ORDER BY tasks.number",
        )?;
        let mut rows = find.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let request: TaskRequest = serde_json::from_str(&row.get::<_, String>(3)?)?;
            let state: TaskState = serde_json::from_str(&row.get::<_, String>(4)?)?;
            all.push(Task {
                number: row.get(0)?,
                name: row.get(1)?,
                set: row.get(2)?,
                request: request.into(),
                state,
                id: TaskId(row.get(5)?),
                attempt: row.get(6)?,
                node: row.get(7)?,
                why: row.get(8)?,
                estimate: row.get(9)?,
                submitted: row.get(10)?,
                started: row.get(11)?,
                ended: row.get(12)?,
                status: row.get(13)?,
                cancelled: row.get(14)?,
                standby: row.get(15)?,
                to: None,
                failures: 0,
                epoch: 0,
                place: Place::default(),
                resumed: row
                    .get::<_, Option<u64>>(16)?
                    .zip(row.get(17)?)
                    .map(|(snapshot, done)| Resumed { snapshot, done }),
                // What it has done on nodes before this one is not written down.
                done: row.get::<_, Option<f64>>(17)?.unwrap_or(0.0),
                since: row.get(12)?,
            });
        }
        Ok(all)
    }

    /// The number of the next task: none that any task has ever had, as identities follow from it.
    pub(crate) fn next(&self) -> Result<u64> {
        let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'tasks'";
        Ok(self.0.query_row(last, [], |row| row.get::<_, u64>(0))? + 1)
    }

    pub(crate) fn marks(&self, node: &str) -> Result<Marks> {
        let mut find = self.0.prepare_cached("SELECT cordoned, labels FROM nodes WHERE name = ?1")?;
        let mut rows = find.query([node])?;
        let Some(row) = rows.next()? else { return Ok(Marks::default()) };
        Ok(Marks { cordoned: row.get(0)?, labels: serde_json::from_str(&row.get::<_, String>(1)?)? })
    }

    pub(crate) fn put_marks(&self, node: &str, marks: &Marks) -> Result<()> {
        let mut put = self.0.prepare_cached(
            "INSERT INTO nodes (name, cordoned, labels) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET cordoned = ?2, labels = ?3",
        )?;
        put.execute(params![node, marks.cordoned, serde_json::to_string(&marks.labels)?])?;
        Ok(())
    }

    /// How long a task has run, at speed 1.
    pub(crate) fn put_run(&self, image: &str, args: &str, seconds: f64) -> Result<()> {
        self.0
            .prepare_cached("INSERT INTO runs (image, args, seconds) VALUES (?1, ?2, ?3)")?
            .execute(params![image, args, seconds])?;
        // More than are looked at are not kept.
        self.0.prepare_cached("DELETE FROM runs WHERE rowid <= (SELECT max(rowid) FROM runs) - 20000")?.execute([])?;
        Ok(())
    }

    /// All of them, the latest last.
    pub(crate) fn runs(&self) -> Result<Vec<(String, String, f64)>> {
        let mut find = self.0.prepare("SELECT image, args, seconds FROM runs ORDER BY rowid")?;
        let all = find.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(all.collect::<Result<_, _>>()?)
    }

    pub(crate) fn remove_marks(&self, node: &str) -> Result<()> {
        self.0.prepare_cached("DELETE FROM nodes WHERE name = ?1")?.execute([node])?;
        Ok(())
    }

    /// What became of a task.
    pub(crate) fn put_moment(&self, number: u64, at: u64, task: &TaskView) -> Result<()> {
        let mut put = self.0.prepare_cached(
            "INSERT INTO moments (number, at, state, node, why, attempt) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        put.execute(params![number, at, task.state.name(), task.node, task.why, task.attempt])?;
        Ok(())
    }

    /// All that became of a task, the earliest first.
    pub(crate) fn history(&self, number: u64) -> Result<Vec<Moment>> {
        let mut find = self
            .0
            .prepare_cached("SELECT at, state, node, why, attempt FROM moments WHERE number = ?1 ORDER BY rowid")?;
        let mut rows = find.query([number])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(1)?;
            let state = TaskState::ALL.into_iter().find(|state| state.name() == name);
            all.push(Moment {
                at: row.get(0)?,
                state: state.with_context(|| format!("a task cannot be {name}"))?,
                node: row.get(2)?,
                why: row.get(3)?,
                attempt: row.get(4)?,
            });
        }
        Ok(all)
    }

    pub(crate) fn put_token(&self, token: &Token) -> Result<()> {
        let mut put = self
            .0
            .prepare_cached("INSERT INTO tokens (name, hash, role, expires, share) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        put.execute(params![token.name, token.hash, token.role.name(), token.expires, token.share])?;
        Ok(())
    }

    /// Whether there was one.
    pub(crate) fn remove_token(&self, name: &str) -> Result<bool> {
        Ok(self.0.prepare_cached("DELETE FROM tokens WHERE name = ?1")?.execute([name])? > 0)
    }

    /// Whether there is one.
    pub(crate) fn put_share(&self, name: &str, share: f64) -> Result<bool> {
        let mut put = self.0.prepare_cached("UPDATE tokens SET share = ?2 WHERE name = ?1")?;
        Ok(put.execute(params![name, share])? > 0)
    }

    pub(crate) fn tokens(&self) -> Result<Vec<Token>> {
        let mut find = self.0.prepare_cached("SELECT name, hash, role, expires, share FROM tokens ORDER BY name")?;
        let mut rows = find.query([])?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(2)?;
            let role = Role::ALL.into_iter().find(|role| role.name() == name);
            all.push(Token {
                name: row.get(0)?,
                hash: row.get(1)?,
                role: role.with_context(|| format!("{name} is no role"))?,
                expires: row.get(3)?,
                share: row.get(4)?,
            });
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_an_earlier_version_is_taken_over_with_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        for (version, lacks) in
            [(1, "expires INTEGER, share REAL NOT NULL DEFAULT 1"), (2, "share REAL NOT NULL DEFAULT 1")]
        {
            let path = dir.path().join(format!("{version}.db"));
            let role = if version == 1 { "submit" } else { "operate" };
            let schema = SCHEMA.replace(&format!(", {lacks}"), "");
            let schema = if version == 1 { schema.replace(", standby TEXT", "") } else { schema };
            let db = Connection::open(&path).unwrap();
            db.execute_batch(&schema).unwrap();
            db.pragma_update(None, "user_version", version).unwrap();
            let put = "INSERT INTO tokens (name, hash, role) VALUES ('alice', ?1, ?2)";
            db.execute(put, params![[7u8; 32], role]).unwrap();
            drop(db);
            let shares = |store: &Store| -> Vec<(String, Role, f64)> {
                store.tokens().unwrap().into_iter().map(|token| (token.name, token.role, token.share)).collect()
            };
            let store = Store::open(&path).unwrap();
            assert_eq!(shares(&store), [("alice".into(), Role::Operate, 1.0)], "{version}");
            assert!(store.put_share("alice", 2.5).unwrap() && !store.put_share("bob", 2.0).unwrap());
            drop(store);
            assert_eq!(shares(&Store::open(&path).unwrap()), [("alice".into(), Role::Operate, 2.5)]);
        }
        let newer = dir.path().join("newer.db");
        Connection::open(&newer).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        assert!(format!("{:#}", Store::open(&newer).err().unwrap()).contains("newer version"));
    }
}
