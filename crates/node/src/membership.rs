//! Becoming a cluster, and a member of one: the authority's key, invitations, certificates, their end.
//!
//! `node init` makes the authority; whoever holds its key can invite, certify and revoke. An invitation is a token of
//! 56 bytes: which invitation, its secret, and the authority's public key, by which the newcomer knows that it speaks
//! to the right cluster before it says the secret.

use crate::db::Db;
use crate::dirs::Dirs;
use crate::link::Link;
use crate::peers::{NodeMessage, Peer};
use crate::{random, unix_now};
use anyhow::{Context, Result, anyhow, bail};
use std::time::Duration;
pub use wayfare_cluster::identity::Identity;
use wayfare_cluster::token::{Token, check_name};
use wayfare_store::atomic;
use wayfare_transfer::Kind;
use wayfare_transfer::channel::Credentials;
use wayfare_transfer::identity::{Authority, Certificate, Claims, Revocations};

/// How long a certificate holds.
const TERM: u64 = 365 * 24 * 3600;

/// What a directory's node knows of itself.
pub(crate) fn load(dirs: &Dirs) -> Result<Identity> {
    let path = dirs.file("identity.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!(
            "{} is no node yet: `wayfare node init` makes a cluster, `wayfare node join` enters one",
            dirs.root().display()
        ),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

fn store(dirs: &Dirs, identity: &Identity) -> Result<()> {
    let path = dirs.file("identity.json");
    atomic::write(&path, &serde_json::to_vec(identity)?).with_context(|| format!("cannot write {}", path.display()))
}

fn authority(dirs: &Dirs) -> Result<Authority> {
    let path = dirs.file("authority.key");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let secret: [u8; 32] = bytes.try_into().map_err(|_| anyhow!("{} is damaged", path.display()))?;
            Ok(Authority::from_secret(&secret))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("this node does not hold the cluster's key: do it on the one where `wayfare node init` was run")
        }
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

fn certify(db: &Db, authority: &Authority, name: &str, key: [u8; 32]) -> Result<Certificate> {
    let (not_before, not_after) = (unix_now(), unix_now() + TERM);
    let serial = db.certify(name, &key, not_after)?;
    let claims = Claims { cluster: authority.public(), name: name.into(), key, serial, not_before, not_after };
    Ok(authority.certify(claims))
}

/// Makes a cluster, and this node its first member.
///
/// # Errors
/// When the node belongs to one already.
pub fn init(dirs: &Dirs, cluster: &str, name: &str) -> Result<Identity> {
    check_name(name)?;
    if dirs.file("identity.json").exists() {
        let there = load(dirs)?;
        bail!(
            "this node is {} of the cluster {} already: remove {} to begin anew",
            there.name,
            there.cluster,
            dirs.root().display()
        );
    }
    let db = Db::open(dirs)?;
    let secret: [u8; 32] = random()?;
    atomic::write(&dirs.file("authority.key"), &secret).context("cannot write the cluster's key")?;
    let authority = Authority::from_secret(&secret);
    let secret = random()?;
    let certificate = certify(&db, &authority, name, Credentials::public_key(&secret))?;
    let identity =
        Identity { cluster: cluster.into(), authority: authority.public(), name: name.into(), secret, certificate };
    store(dirs, &identity)?;
    Ok(identity)
}

/// Makes an invitation that is good for one node and a short time.
///
/// # Errors
/// On a node without the cluster's key.
pub fn invite(dirs: &Dirs, valid: Duration) -> Result<Token> {
    invite_by(dirs, &Db::open(dirs)?, valid)
}

/// The same by whoever has the database open.
pub(crate) fn invite_by(dirs: &Dirs, db: &Db, valid: Duration) -> Result<Token> {
    let authority = authority(dirs)?.public();
    let token = Token { invitation: random()?, secret: random()?, authority };
    db.invite(&token.invitation, &Token::hash(&token.secret), unix_now() + valid.as_secs())?;
    Ok(token)
}

/// Enters a cluster: asks the node at `address`, and keeps what it answers.
///
/// # Errors
/// When this is a member already, the token is not good, or nobody answers.
pub async fn join(dirs: &Dirs, token: &Token, address: &str, name: &str) -> Result<Identity> {
    if dirs.file("identity.json").exists() {
        let there = load(dirs)?;
        bail!(
            "this node is {} of the cluster {} already: remove {} to leave it",
            there.name,
            there.cluster,
            dirs.root().display()
        );
    }
    let (identity, peers) = enter(token, address, name).await?;
    store(dirs, &identity)?;
    let db = Db::open(dirs)?;
    for peer in peers {
        db.put_peer(&peer)?;
    }
    Ok(identity)
}

/// Enters a cluster with a new key, for a node that may be another machine than this one; and the nodes that are there.
///
/// # Errors
/// When the token is not good, the name cannot be, or nobody answers.
pub async fn enter(token: &Token, address: &str, name: &str) -> Result<(Identity, Vec<Peer>)> {
    check_name(name)?;
    let secret: [u8; 32] = random()?;
    let credentials =
        Credentials { secret, certificate: None, cluster: token.authority, revoked: Revocations::default() };
    let mut link = Link::dial(address, credentials).await?;
    let wish = NodeMessage::Join { invitation: token.invitation, secret: token.secret, name: name.into() };
    link.send(Kind::Node, &wish.encode()).await?;
    let (certificate, cluster, peers) = match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
        NodeMessage::Joined { certificate, cluster, peers } => (certificate, cluster, peers),
        NodeMessage::Refused(why) => bail!("{address} refused: {why}"),
        _ => bail!("{address} answered something else"),
    };
    let key = Credentials::public_key(&secret);
    let claims = certificate.verify(&token.authority, &key, unix_now(), &Revocations::default())?;
    Ok((Identity { cluster, authority: token.authority, name: claims.name, secret, certificate }, peers))
}

/// Answers a wish to join, on the node with the cluster's key.
pub(crate) fn admit(
    dirs: &Dirs,
    db: &Db,
    cluster: &str,
    key: [u8; 32],
    wish: NodeMessage,
    peers: Vec<Peer>,
) -> NodeMessage {
    let NodeMessage::Join { invitation, secret, name } = wish else {
        return NodeMessage::Refused("join first".into());
    };
    let answer = || -> Result<NodeMessage> {
        check_name(&name)?;
        let authority = authority(dirs)?;
        if is_member(db, &name)? {
            bail!("there is a node named {name}: join by another --name");
        }
        if !db.redeem(&invitation, &Token::hash(&secret), &name)? {
            bail!("the invitation is unknown, used or too old: ask for a new one (`wayfare node invite`)");
        }
        let certificate = certify(db, &authority, &name, key)?;
        Ok(NodeMessage::Joined { certificate, cluster: cluster.into(), peers })
    };
    answer().unwrap_or_else(|e| NodeMessage::Refused(format!("{e:#}")))
}

/// Whether there is a member of this name, heard of or not.
pub(crate) fn is_member(db: &Db, name: &str) -> Result<bool> {
    let revoked = db.revocations()?;
    Ok(db.serials_of(name)?.iter().any(|serial| !revoked.contains(*serial)))
}

/// Makes a machine a member that cannot ask by itself: its key is made here.
pub(crate) fn enroll(dirs: &Dirs, db: &Db, cluster: &str, name: &str) -> Result<Identity> {
    check_name(name)?;
    let authority = authority(dirs)?;
    if is_member(db, name)? {
        bail!("there is a node named {name}: use another name, or `wayfare node revoke {name}` if it is no more");
    }
    let secret = random()?;
    let certificate = certify(db, &authority, name, Credentials::public_key(&secret))?;
    Ok(Identity { cluster: cluster.into(), authority: authority.public(), name: name.into(), secret, certificate })
}

/// Certifies a new key of a member, and revokes the certificate it had.
pub(crate) fn renew(dirs: &Dirs, db: &Db, member: &Claims, key: [u8; 32]) -> Result<(Certificate, Revocations)> {
    let authority = authority(dirs)?;
    let certificate = certify(db, &authority, &member.name, key)?;
    let mut serials = db.revocations()?.serials().to_vec();
    serials.push(member.serial);
    let list = authority.revoke(serials);
    db.set_revocations(&list)?;
    Ok((certificate, list))
}

/// Takes a node's certificates back; it is a member no longer as soon as the others hear of it.
///
/// # Errors
/// For a name that no certificate has, and on a node without the cluster's key.
pub fn revoke(dirs: &Dirs, name: &str) -> Result<()> {
    let (authority, db) = (authority(dirs)?, Db::open(dirs)?);
    let serials = db.serials_of(name)?;
    let mut revoked = db.revocations()?.serials().to_vec();
    if serials.iter().all(|serial| revoked.contains(serial)) {
        bail!("there is no node named {name} in the cluster");
    }
    revoked.extend(serials);
    db.set_revocations(&authority.revoke(revoked))?;
    db.remove_peer(name)
}

/// Gives this node a new key: certified by the node at `address`, which holds the cluster's key, or by itself.
///
/// # Errors
/// When that node does not answer or refuses.
pub async fn rotate(dirs: &Dirs, address: Option<&str>) -> Result<()> {
    let (mut identity, db) = (load(dirs)?, Db::open(dirs)?);
    let secret: [u8; 32] = random()?;
    let key = Credentials::public_key(&secret);
    let certificate = if dirs.file("authority.key").exists() {
        let member = identity.claims().context("this node's certificate is damaged")?;
        renew(dirs, &db, &member, key)?.0
    } else {
        let address = address.context("say where the node is that holds the cluster's key: --via ADDRESS")?;
        let mut link = Link::dial(address, identity.credentials(db.revocations()?)).await?;
        link.send(Kind::Node, &NodeMessage::Renew { key }.encode()).await?;
        match NodeMessage::decode(&link.expect(Kind::Node).await?)? {
            NodeMessage::Joined { certificate, .. } => certificate,
            NodeMessage::Refused(why) => bail!("{address} refused: {why}"),
            _ => bail!("{address} answered something else"),
        }
    };
    certificate.verify(&identity.authority, &key, unix_now(), &Revocations::default())?;
    (identity.secret, identity.certificate) = (secret, certificate);
    store(dirs, &identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_good_once_and_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(Some(&dir.path().join("a"))).unwrap();
        init(&dirs, "home", "first").unwrap();
        let db = Db::open(&dirs).unwrap();
        let wish = |token: &Token, name: &str| {
            let message = NodeMessage::Join { invitation: token.invitation, secret: token.secret, name: name.into() };
            matches!(admit(&dirs, &db, "home", [5; 32], message, Vec::new()), NodeMessage::Joined { .. })
        };
        let token = invite(&dirs, Duration::from_secs(60)).unwrap();
        assert!(!wish(&Token { secret: [0; 16], ..invite(&dirs, Duration::from_secs(60)).unwrap() }, "b"), "guessed");
        assert!(!wish(&token, "first"), "the name is taken");
        assert!(wish(&token, "b"));
        assert!(!wish(&token, "c"), "used");
        assert!(!wish(&invite(&dirs, Duration::ZERO).unwrap(), "c"), "expired");
        init(&dirs, "home", "again").unwrap_err();
    }

    #[test]
    fn a_revoked_name_can_join_again_only_by_a_new_invitation() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = Dirs::open(Some(&dir.path().join("a"))).unwrap();
        init(&dirs, "home", "first").unwrap();
        let db = Db::open(&dirs).unwrap();
        let token = invite(&dirs, Duration::from_secs(60)).unwrap();
        let wish = NodeMessage::Join { invitation: token.invitation, secret: token.secret, name: "b".into() };
        let NodeMessage::Joined { certificate, .. } = admit(&dirs, &db, "home", [5; 32], wish, Vec::new()) else {
            panic!("not admitted");
        };
        revoke(&dirs, "nobody").unwrap_err();
        revoke(&dirs, "b").unwrap();
        let cluster = load(&dirs).unwrap().authority;
        certificate.verify(&cluster, &[5; 32], unix_now(), &db.revocations().unwrap()).unwrap_err();
        revoke(&dirs, "b").unwrap_err();
    }
}
