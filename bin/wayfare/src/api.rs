//! Asks the controller, by HTTP.

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::Body;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use wayfare_api::Problem;
use wayfare_control::{Access, access_file};
use wayfare_node::Dirs;

/// Names an access file: who has one need be no node.
pub const ACCESS: &str = "WAYFARE_ACCESS";
/// Longest answer that is read as a whole.
const ANSWER_MAX: u64 = 256 << 20;

/// A controller that one may ask.
pub struct Api {
    access: Access,
    agent: ureq::Agent,
}

impl Api {
    /// The controller of a node's directory; or the one that the access file says which the environment names.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(state: Option<&Path>) -> Result<Api> {
        let file = match (state, std::env::var_os(ACCESS)) {
            (None, Some(file)) => file.into(),
            _ => access_file(Dirs::locate(state)?.root()),
        };
        let text = std::fs::read(&file).with_context(|| {
            format!("{}: no controller has been there: start one with `wayfare up`", file.display())
        })?;
        let access: Access = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
        let mut config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_connect(Some(Duration::from_secs(5)));
        if let Some(ca) = &access.ca {
            let ca = Certificate::from_pem(ca.as_bytes()).with_context(|| file.display().to_string())?;
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&[ca.to_owned()]))
                .unversioned_rustls_crypto_provider(provider);
            config = config.tls_config(tls.build());
        }
        Ok(Api { access, agent: config.build().into() })
    }

    /// How a holder of another token finds this controller.
    pub fn access(&self, token: &str) -> Access {
        Access { token: token.into(), ..self.access.clone() }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.access.url)
    }

    fn token(&self) -> String {
        format!("Bearer {}", self.access.token)
    }

    fn answered(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>> {
        let mut answer = answer.with_context(|| {
            format!("the controller at {} does not answer: start it with `wayfare up`", self.access.url)
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => bail!(problem),
            Err(_) => bail!("the controller answered {}", answer.status()),
        }
    }

    fn read<T: DeserializeOwned>(mut answer: Response<Body>) -> Result<T> {
        let mut text = Vec::new();
        answer.body_mut().as_reader().take(ANSWER_MAX).read_to_end(&mut text)?;
        serde_json::from_slice(&text).map_err(|e| anyhow!("the controller is of another version: {e}"))
    }

    /// Looks at something.
    ///
    /// # Errors
    /// What the controller says, or that it is not there.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Self::read(self.answered(self.agent.get(self.url(path)).header("authorization", self.token()).call())?)
    }

    /// Whether something is there.
    ///
    /// # Errors
    /// That the controller is not.
    pub fn has(&self, path: &str) -> Result<bool> {
        let answer = self.agent.get(self.url(path)).header("authorization", self.token()).call();
        match answer {
            Ok(answer) if answer.status() == 404 => Ok(false),
            answer => self.answered(answer).map(|_| true),
        }
    }

    /// Has something done; the answer, which may be empty.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn post(&self, path: &str, body: &[u8]) -> Result<Response<Body>> {
        self.answered(self.agent.post(self.url(path)).header("authorization", self.token()).send(body))
    }

    /// The same, with an answer.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn ask<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T> {
        Self::read(self.post(path, body)?)
    }

    /// Puts something there.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn put(&self, path: &str, body: &[u8]) -> Result<()> {
        self.answered(self.agent.put(self.url(path)).header("authorization", self.token()).send(body)).map(|_| ())
    }

    /// Takes something away.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn delete(&self, path: &str) -> Result<()> {
        self.answered(self.agent.delete(self.url(path)).header("authorization", self.token()).call()).map(|_| ())
    }

    /// Bytes, as they come.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn stream(&self, path: &str) -> Result<impl Read + use<>> {
        let answer = self.answered(self.agent.get(self.url(path)).header("authorization", self.token()).call())?;
        Ok(answer.into_body().into_reader())
    }
}
