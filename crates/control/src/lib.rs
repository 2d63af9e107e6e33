//! The controller: takes sets of tasks, has the scheduler say where each is to run, starts them on nodes, and knows what has
//! become of them, whatever happens to it or to nodes.
//!
//! ```text
//! HTTP --> http --Command--> core (engine, database) --Deed--> fleet --> nodes
//!                              ^------------------ Heard, Lost --'
//! ```

mod core;
mod fleet;
mod http;
mod hub;
mod metrics;
pub mod plan;
mod store;
mod task;
mod tls;
mod trace;

use crate::core::Core;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tls::Tls;
use anyhow::{Context, Result};
use axum::serve::ListenerExt;
use axum_server::tls_rustls::RustlsConfig;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use wayfare_node::agent::Agent;

/// A node that is not heard of for so long is lost, with what ran there.
pub const LEASE: Duration = Duration::from_secs(5);
/// Commands that may wait.
const COMMANDS: usize = 16 << 10;

/// Where a controller's things are, below a node's directory.
pub fn dir(root: &Path) -> PathBuf {
    root.join("controller")
}

/// How a client finds a controller and shows that it may.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Access {
    /// As `http://127.0.0.1:7700`.
    pub url: String,
    /// A token.
    pub token: String,
    /// The certificate of the authority that the controller's is signed by, PEM; where it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// Where a controller says how to reach it, to users who can read the directory.
pub fn access_file(root: &Path) -> PathBuf {
    dir(root).join("access.json")
}

/// How a controller works.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// TLS is spoken, even where only this machine's users come.
    pub tls: bool,
    /// Tasks stay on their nodes though they would end sooner on others.
    pub stay: bool,
}

/// The API's description, as `/openapi.json` has it.
pub fn openapi() -> String {
    http::openapi()
}

/// A controller, listening.
pub struct Controller {
    agent: Arc<Agent>,
    core: Core,
    commands: (mpsc::Sender<core::Command>, mpsc::Receiver<core::Command>),
    hub: Hub,
    metrics: Arc<Metrics>,
    deeds: mpsc::UnboundedReceiver<core::Doing>,
    logs: PathBuf,
    snapshots: PathBuf,
    listener: TcpListener,
    tokens: http::Tokens,
    tls: Option<Tls>,
}

impl Controller {
    /// Opens what there is of it in a node's directory, and listens; with TLS, where it is asked for, or others than this machine's
    /// users may come.
    ///
    /// # Errors
    /// When the database cannot be used, or the address is taken.
    pub async fn open(agent: Arc<Agent>, root: &Path, listen: SocketAddr, settings: Settings) -> Result<Controller> {
        let dir = dir(root);
        let logs = dir.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| dir.display().to_string())?;
        std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let store = Store::open(&dir.join("controller.db"))?;
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        let (me, address) = (agent.identity()?, listener.local_addr()?);
        let snapshots = dir.join("snapshots");
        let tls = settings.tls || !address.ip().is_loopback();
        let tls = tls.then(|| Tls::open(&dir, &me.cluster, address.ip())).transpose()?;
        let url = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
        let ca = tls.as_ref().map(|tls| tls.authority.clone());
        let tokens = http::Tokens::open(&store, &access_file(root), Access { url, token: String::new(), ca })?;
        let (hub, metrics) = (Hub::new(), Arc::new(Metrics::new()));
        let (doer, deeds) = mpsc::unbounded_channel();
        let core = Core::open(store, me.name, hub.clone(), metrics.clone(), doer, settings.stay, snapshots.clone())?;
        let commands = mpsc::channel(COMMANDS);
        Ok(Controller { agent, core, commands, hub, metrics, deeds, logs, snapshots, listener, tokens, tls })
    }

    /// Where its API is, as a URL.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn url(&self) -> Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", self.listener.local_addr()?))
    }

    /// Works until `stop`, or until it cannot write down what happens.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let (to_core, commands) = self.commands;
        let app = http::App {
            core: to_core.clone(),
            hub: self.hub,
            metrics: self.metrics,
            standbys: Arc::default(),
            is_secure: self.tls.is_some(),
            agent: self.agent.clone(),
            logs: self.logs.clone(),
            tokens: Arc::new(self.tokens),
        };
        tokio::spawn(fleet::act(self.agent.clone(), self.logs, self.snapshots, self.deeds, to_core.clone()));
        tokio::spawn(fleet::look(self.agent, to_core));
        let core = tokio::spawn(self.core.run(commands));
        let (listener, tls) = (self.listener, self.tls);
        let serving = async move {
            let app = http::router(app);
            match tls {
                Some(tls) => {
                    let config = RustlsConfig::from_config(tls.config);
                    axum_server::from_tcp_rustls(listener.into_std()?, config)?.serve(app.into_make_service()).await
                }
                // An answer is small, and is not to wait for the next one.
                None => axum::serve(listener.tap_io(|io| _ = io.set_nodelay(true)), app).await,
            }
        };
        tokio::select! {
            () = stop => Ok(()),
            served = serving => Ok(served?),
            _ = core => anyhow::bail!("the controller has ended: its log says why"),
        }
    }
}
