//! From a file, or from the digest in a snapshot, to an image that runs here: out of the cache where it is there and
//! can be trusted, else compiled and kept.

use crate::{atomic, locations, notice, while_working};
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;
use std::sync::OnceLock;
use wayfare_engine::{Error, Form, Image, ImageInfo, Key, Options, Target};
use wayfare_snapshot::Digest;

/// What to make an image for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Compiled for.
    pub target: Target,
    /// Whether the target was asked for, so that an image for another is not what is meant.
    pub explicit: bool,
    /// Options that change results.
    pub options: Options,
    /// Whether it is to start a task only, or to resume one as well.
    pub form: Form,
    /// Whether a program that cannot be captured is wanted all the same.
    pub allow_unmovable: bool,
}

impl Wanted {
    /// Reads `--target`, which must be one that runs here.
    ///
    /// # Errors
    /// An unknown target, or one for another machine.
    pub fn here(target: Option<&str>, options: Options, form: Form, allow_unmovable: bool) -> Result<Wanted> {
        let explicit = target.is_some();
        let target = target.map_or_else(|| Ok(Target::host()), Target::parse)?;
        if !target.runs_here() {
            bail!("code for {target} does not run on this machine: use {} or pulley64", Target::host());
        }
        Ok(Wanted { target, explicit, options, form, allow_unmovable })
    }
}

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A WebAssembly module (or component).
    Module,
    /// A compiled image.
    Image,
    /// A snapshot.
    Snapshot,
}

/// Reads a file and says what it is.
///
/// # Errors
/// When it cannot be read or is none of ours.
pub fn read(path: &Path) -> Result<(Vec<u8>, FileKind)> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let kind = if bytes.starts_with(b"\0asm") {
        FileKind::Module
    } else if wayfare_engine::is_image(&bytes) {
        FileKind::Image
    } else if bytes.starts_with(&wayfare_snapshot::MAGIC) {
        FileKind::Snapshot
    } else if bytes.trim_ascii_start().starts_with(b"(module") {
        bail!("{}: this is WebAssembly text: translate it with wat2wasm first", path.display());
    } else {
        bail!("{}: this is neither a WebAssembly module nor a Wayfare image", path.display());
    };
    Ok((bytes, kind))
}

/// A program to run: its image, and what another image of it can be made from.
pub struct Program {
    /// What runs.
    pub image: Image,
    /// The module, where it was at hand.
    module: Option<Vec<u8>>,
    wanted: Wanted,
    /// Once it was needed.
    resumable: OnceLock<Image>,
}

impl Program {
    fn new(image: Image, module: Option<Vec<u8>>, wanted: &Wanted) -> Program {
        Program { image, module, wanted: wanted.clone(), resumable: OnceLock::new() }
    }

    /// An image that can resume tasks of this program, compiled if need be.
    ///
    /// # Errors
    /// When it cannot be compiled.
    pub fn resumable(&self) -> Result<Image> {
        if let Some(image) = self.resumable.get() {
            return Ok(image.clone());
        }
        let wanted = Wanted { form: Form::Resume, ..self.wanted.clone() };
        let digest = self.image.digest();
        let image = match &self.module {
            _ if self.image.form() == Form::Resume => self.image.clone(),
            Some(wasm) => from_module(wasm, digest, &wanted)?,
            None => from_digest(digest, &wanted)?.map(|p| p.image).ok_or_else(|| anyhow!(Error::StartsOnly))?,
        };
        Ok(self.resumable.get_or_init(|| image).clone())
    }
}

/// A program given by its file.
///
/// # Errors
/// When the file is no program, or one that cannot be compiled or trusted.
pub fn from_file(path: &Path, wanted: &Wanted) -> Result<Program> {
    let (bytes, kind) = read(path)?;
    let name = || path.display().to_string();
    let (image, module) = match kind {
        FileKind::Module => (from_module(&bytes, Digest::of(&bytes), wanted).with_context(name)?, Some(bytes)),
        FileKind::Image => (from_image(&bytes, path, wanted).with_context(name)?, None),
        FileKind::Snapshot => bail!("{}: this is a snapshot: go on with it by `wayfare resume`", path.display()),
    };
    Ok(Program::new(image, module, wanted))
}

/// The program of a module that was run here before.
///
/// # Errors
/// When it never was (`Ok(None)` then), or cannot be compiled.
pub fn from_digest(digest: Digest, wanted: &Wanted) -> Result<Option<Program>> {
    let key = locations::key()?;
    let image = if let Cached::Usable(image) = cached(digest, wanted, &key)? {
        image
    } else if let Some(wasm) = kept_module(digest)? {
        from_module(&wasm, digest, wanted)?
    } else {
        return Ok(None);
    };
    Ok(Some(Program::new(image, None, wanted)))
}

/// Whether the module with this digest is here.
pub fn has_module(digest: Digest) -> bool {
    locations::module(digest).is_ok_and(|path| path.exists())
}

/// The module with this digest, if it was run here before.
pub fn kept_module(digest: Digest) -> Result<Option<Vec<u8>>> {
    let wasm = std::fs::read(locations::module(digest)?).ok();
    Ok(wasm.filter(|wasm| Digest::of(wasm) == digest))
}

/// The modules that were run here before, the latest first, and no more than so many.
///
/// # Errors
/// When nobody says where they would be.
pub fn kept_modules(most: usize) -> Result<Vec<Digest>> {
    let place = locations::module(Digest([0; 32]))?;
    let Some(entries) = place.parent().and_then(|dir| std::fs::read_dir(dir).ok()) else { return Ok(Vec::new()) };
    let dated = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let digest = entry.file_name().to_str()?.strip_suffix(".wasm")?.parse().ok()?;
        Some((entry.metadata().ok()?.modified().ok()?, digest))
    });
    let mut all: Vec<(std::time::SystemTime, Digest)> = dated.collect();
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    Ok(all.into_iter().take(most).map(|(_, digest)| digest).collect())
}

/// Compiles a module, and keeps it so that its snapshots can be resumed.
///
/// # Errors
/// When it is not valid or cannot be captured.
pub fn compile(wasm: &[u8], digest: Digest, wanted: &Wanted, key: &Key) -> Result<Vec<u8>> {
    let Wanted { target, options, form, allow_unmovable, .. } = wanted;
    let what = format!("compiling for {target}");
    let work = || Image::compile(wasm, target, *options, *form, *allow_unmovable, key);
    // The code generator panics on what it does not expect; that must not look like the program's own failure.
    let compiled = std::panic::catch_unwind(|| while_working(&what, work));
    let image =
        compiled.map_err(|_| anyhow!("the code generator for {target} failed: this is a defect, report it"))??;
    let path = locations::module(digest)?;
    if !path.exists() {
        keep(&path, wasm);
    }
    Ok(image)
}

/// The image of a module, compiled if need be.
///
/// # Errors
/// When it is not valid, cannot be compiled, or cannot be captured.
pub fn from_module(wasm: &[u8], digest: Digest, wanted: &Wanted) -> Result<Image> {
    let key = locations::key()?;
    match cached(digest, wanted, &key)? {
        Cached::Usable(image) => return Ok(image),
        Cached::Refused(why) => notice(&format!("the kept image is not used ({why}); compiling it again")),
        Cached::None => {}
    }
    let bytes = compile(wasm, digest, wanted, &key)?;
    keep_image(digest, wanted, &bytes)?;
    Ok(Image::load(&bytes, &key)?)
}

/// The image of a module for another machine, signed with a key of that machine's; compiled if need be.
///
/// # Errors
/// As [`from_module`].
pub fn image_for(wasm: &[u8], digest: Digest, wanted: &Wanted, their_key: &Key) -> Result<Vec<u8>> {
    let key = locations::key()?;
    let kept = std::fs::read(locations::image(digest, &wanted.target, wanted.options, wanted.form)?);
    if let Some(image) = kept.ok().and_then(|image| wayfare_engine::sign_again(image, &key, their_key).ok()) {
        return Ok(image);
    }
    let image = compile(wasm, digest, wanted, &key)?;
    keep_image(digest, wanted, &image)?;
    Ok(wayfare_engine::sign_again(image, &key, their_key)?)
}

enum Cached {
    Usable(Image),
    Refused(String),
    None,
}

fn cached(digest: Digest, wanted: &Wanted, key: &Key) -> Result<Cached> {
    // What resumes can start as well.
    let forms: &[Form] = if wanted.form == Form::Start { &[Form::Start, Form::Resume] } else { &[Form::Resume] };
    let mut refused = Cached::None;
    for form in forms {
        let path = locations::image(digest, &wanted.target, wanted.options, *form)?;
        let Ok(bytes) = std::fs::read(&path) else { continue };
        match Image::load(&bytes, key) {
            Ok(image) if image.digest() != digest || image.options() != wanted.options || image.form() != *form => {
                refused = Cached::Refused("it is another program's".into());
            }
            Ok(image) => return movable(&image, wanted).map(|()| Cached::Usable(image)),
            Err(e) if replaceable(&e) => refused = Cached::Refused(reason(&e)),
            Err(e) => return Err(e).with_context(|| path.display().to_string()),
        }
    }
    Ok(refused)
}

/// An image given as the program itself.
fn from_image(bytes: &[u8], path: &Path, wanted: &Wanted) -> Result<Image> {
    let key = locations::key()?;
    let refused = match Image::load(bytes, &key) {
        Ok(image) => {
            movable(&image, wanted)?;
            if wanted.explicit && ImageInfo::parse(bytes)?.target != wanted.target.of_image() {
                anyhow!("the image is for another target than {}: compile the module for it", wanted.target)
            } else if wanted.form == Form::Resume && image.form() == Form::Start {
                anyhow!(Error::StartsOnly)
            } else {
                return Ok(image);
            }
        }
        Err(e) if replaceable(&e) => anyhow!(e),
        Err(e) => return Err(e.into()),
    };
    // Nothing of an untrusted image is used but the name of the module it claims to be of.
    let Ok(info) = ImageInfo::parse(bytes) else {
        return Err(refused);
    };
    let Some(wasm) = kept_module(info.module)? else {
        return Err(refused);
    };
    notice(&format!("{}: {refused}; compiling its module, which is kept here", path.display()));
    from_module(&wasm, info.module, &Wanted { options: info.options, ..wanted.clone() })
}

/// Whether compiling again is the cure.
fn replaceable(e: &Error) -> bool {
    matches!(
        e,
        Error::Untrusted | Error::StaleImage(..) | Error::NotAnImage(_) | Error::ForeignImage(..) | Error::Metadata(_)
    )
}

/// The error without its advice, which is being followed.
fn reason(e: &Error) -> String {
    let text = e.to_string();
    text.strip_suffix(": compile it again here").or(text.strip_suffix(": compile it again")).unwrap_or(&text).into()
}

fn movable(image: &Image, wanted: &Wanted) -> Result<()> {
    match image.unmovable() {
        [] => Ok(()),
        _ if wanted.allow_unmovable => Ok(()),
        reasons => bail!("cannot be moved while it runs: {} (--allow-unmovable runs it in place)", reasons.join("; ")),
    }
}

/// Puts an image in the cache: one for another machine too, which may share the directory or be emulated here.
///
/// # Errors
/// When there is no place for a cache.
pub fn keep_image(digest: Digest, wanted: &Wanted, image: &[u8]) -> Result<()> {
    keep(&locations::image(digest, &wanted.target, wanted.options, wanted.form)?, image);
    Ok(())
}

/// Puts a file in the cache. A cache that takes nothing costs time, not the run.
fn keep(path: &Path, bytes: &[u8]) {
    let directory = path.parent().unwrap_or(Path::new("."));
    let kept = std::fs::create_dir_all(directory).and_then(|()| atomic::write(path, bytes));
    if let Err(e) = kept {
        notice(&format!("{} cannot be kept ({e}): going on without", path.display()));
    }
}
