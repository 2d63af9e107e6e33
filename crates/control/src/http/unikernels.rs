//! Images for machines without an operating system, made when they are asked for: whoever boots one is a node of this cluster.

use super::access::Who;
use super::{App, Asked, Failed, Named, failed};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Semaphore;
use utoipa::IntoParams;
use wayfare_api::{Role, UnikernelView, check_node_name};
use wayfare_board::image::{self, Format, TARGETS};

/// Images that are made at once: a disc takes a processor for seconds.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
/// Two that are to have the first free name get two.
static NAMING: Mutex<()> = Mutex::new(());
/// Names that are tried for a board that is given none.
const NAMES: u32 = 10_000;

/// What an image is to be.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wish {
    /// The node's name; the first of board1, board2, ... that is nobody's, unless it is given.
    #[param(min_length = 1, max_length = 63, pattern = "^[A-Za-z0-9][A-Za-z0-9-]*$")]
    name: Option<String>,
    /// `elf` unless something else is said: QEMU, GRUB; `iso`: a disc or USB stick for PCs; `raw`: U-Boot, a Raspberry Pi.
    format: Option<String>,
    /// Where other nodes reach the machine, as `192.0.2.9:7600`; what its network gives it, unless it is said.
    address: Option<String>,
    /// More for the image's own command line, as `wayfare.watchdog=60`.
    append: Option<String>,
}

/// The images that there can be, and why not the others.
#[utoipa::path(get, path = "/v1/unikernels", tag = "nodes", responses(
    (status = 200, body = Vec<UnikernelView>),
))]
pub(super) async fn unikernels() -> Json<Vec<UnikernelView>> {
    let view = |target: &str| {
        let found = image::kernel(target).and_then(|path| Ok(std::fs::metadata(path)?.len()));
        let (bytes, missing) = match found {
            Ok(bytes) => (Some(bytes), None),
            Err(e) => (None, Some(format!("{e:#}"))),
        };
        let formats = Format::of(target).map(|format| format.to_string()).collect();
        UnikernelView { isa: target.into(), formats, bytes, missing }
    };
    Json(TARGETS.into_iter().map(view).collect())
}

/// An image for a machine without an operating system. It is the node that it is called, with the node's key in it: that is a member
/// of the cluster from now on, and is there when a machine boots it. One machine, and nobody else, is to have it.
#[utoipa::path(post, path = "/v1/unikernels/{isa}", tag = "nodes", params(("isa" = String, Path), Wish), responses(
    (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
))]
pub(super) async fn unikernel(
    State(app): State<App>,
    Extension(who): Extension<Who>,
    Named(isa): Named<String>,
    Asked(wish): Asked<Wish>,
) -> Result<Response, Failed> {
    who.may(Role::Admin)?;
    if !TARGETS.contains(&isa.as_str()) {
        return Err(failed(
            404,
            format!("{isa}: there is no kernel for this; there is one for each of {}", TARGETS.join(", ")),
        ));
    }
    let format = format(&isa, wish.format.as_deref())?;
    if let Some(name) = &wish.name {
        check_node_name(name).map_err(|message| failed(422, message))?;
    }
    let line = line(&wish)?;
    let path = image::kernel(&isa).map_err(|e| failed(404, format!("{e:#}")))?;
    let Ok(permit) = AT_ONCE.acquire().await else { return Err(failed(503, "the controller has ended")) };
    let made = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let broken = |e: anyhow::Error| failed(500, format!("{e:#}"));
        let mut kernel = image::read(&path).map_err(broken)?;
        if let Some(line) = line {
            kernel = wayfare_board::append(&kernel, &line).map_err(|e| failed(422, e.to_string()))?;
        }
        // What cannot be made is to use up no name.
        format.made_of(kernel.clone()).map_err(broken)?;
        let naming = NAMING.lock().unwrap_or_else(PoisonError::into_inner);
        let name = match wish.name {
            Some(name) => name,
            None => first_free(&app)?,
        };
        if app.agent.is_member(&name).map_err(broken)? {
            return Err(failed(
                409,
                format!(
                    "there is a node named {name}: use another name, or `wayfare node revoke {name}` if it is no more"
                ),
            ));
        }
        let (identity, peers) = app.agent.enroll(&name).map_err(|e| failed(502, format!("{e:#}")))?;
        drop(naming);
        let image = image::of_node(&kernel, identity, peers).and_then(|image| format.made_of(image)).map_err(broken)?;
        Ok((name, image))
    });
    let (name, image) = made.await.map_err(|_| failed(500, "the image could not be made"))??;
    tracing::info!(node = %name, "an image was made for {isa}");
    let file = if format == Format::Iso { format!("{name}.iso") } else { format!("{name}.img") };
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream".to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\"")),
        // It has a key in it.
        (header::CACHE_CONTROL, "no-store".into()),
    ];
    Ok((head, image).into_response())
}

/// The form that is asked for, if the target's machines boot it.
fn format(isa: &str, wanted: Option<&str>) -> Result<Format, Failed> {
    let Some(wanted) = wanted else { return Ok(Format::Elf) };
    let found = Format::ALL.into_iter().find(|(_, name)| *name == wanted);
    let (format, name) = found.ok_or_else(|| failed(422, format!("format: {wanted:?} is none of elf, iso, raw")))?;
    format.check(isa).map_err(|e| failed(422, format!("format {name}: {e}")))?;
    Ok(format)
}

/// The image's own command line.
fn line(wish: &Wish) -> Result<Option<String>, Failed> {
    let address = match wish.address.as_deref() {
        Some(address) if address.parse::<std::net::SocketAddrV4>().is_err() => {
            return Err(failed(422, format!("address: {address:?} is no IPv4 address with a port, as 192.0.2.9:7600")));
        }
        address => address.map(|address| format!("wayfare.address={address}")),
    };
    let words: Vec<String> = address.into_iter().chain(wish.append.clone()).collect();
    Ok((!words.is_empty()).then(|| words.join(" ")))
}

fn first_free(app: &App) -> Result<String, Failed> {
    for n in 1..=NAMES {
        let name = format!("board{n}");
        if !app.agent.is_member(&name).map_err(|e| failed(502, format!("{e:#}")))? {
            return Ok(name);
        }
    }
    Err(failed(409, format!("board1 to board{NAMES} are there: say a name")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_onto_the_command_line() {
        let wish = |address: &str, append: Option<&str>| Wish {
            name: None,
            format: None,
            address: Some(address.into()),
            append: append.map(Into::into),
        };
        let said = line(&wish("192.0.2.9:7600", Some("wayfare.watchdog=60"))).ok().flatten();
        assert_eq!(said.as_deref(), Some("wayfare.address=192.0.2.9:7600 wayfare.watchdog=60"));
        for wrong in ["192.0.2.9", "[::1]:7600", "1.2.3.4:5 wayfare.loopback=1.1.1.1", ""] {
            assert_eq!(line(&wish(wrong, None)).err().map(|Failed(problem)| problem.status), Some(422), "{wrong}");
        }
    }

    #[test]
    fn a_form_that_no_machine_of_the_kind_boots_is_refused() {
        let wrong = |isa, wanted| format(isa, Some(wanted)).err().map(|Failed(problem)| problem.title);
        assert_eq!(format("riscv64", None).ok(), Some(Format::Elf));
        assert_eq!(wrong("x86_64", "iso"), None);
        assert!(wrong("aarch64", "iso").unwrap().contains("say raw or elf"));
        assert!(wrong("aarch64", "zip").unwrap().contains("none of elf, iso, raw"));
    }
}
