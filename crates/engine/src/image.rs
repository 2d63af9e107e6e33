//! Images: an instrumented module compiled for one target, with a signature, because loading machine
//! code is trusting it.
//!
//! ```text
//! magic "WAYFIMG\n"   8     format u32  4     flags u32  4
//! mac                32     keyed BLAKE3 of everything else
//! module digest      32     of the original module
//! lengths      3 x u32 + u64: target, version, metadata, code
//! target, version, metadata, code
//! ```

use crate::config::{Options, Target, VERSION, configure};
use crate::{Error, Key};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use wasmtime::{Engine, Module};
use wayfare_instrument::meta::Metadata;
use wayfare_snapshot::Digest;

const MAGIC: &[u8; 8] = b"WAYFIMG\n";
const FORMAT: u32 = 1;
const MAC: core::ops::Range<usize> = 16..48;
const FIXED: usize = 100;
const CANONICAL_NAN: u32 = 1;
const STARTS_ONLY: u32 = 2;

/// What an image can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Start tasks, which can be captured: less than half the code, and of the time to make it.
    Start,
    /// Start tasks and resume captured ones.
    Resume,
}

/// What an image says about itself, readable without loading its code.
#[derive(Clone, Debug)]
pub struct ImageInfo {
    /// Digest of the module it was compiled from, before instrumentation.
    pub module: Digest,
    /// What it was compiled for.
    pub target: String,
    /// What compiled it.
    pub version: String,
    /// Options that change results.
    pub options: Options,
    /// What it can do.
    pub form: Form,
    /// Migration points and their frames.
    pub metadata: Metadata,
    /// Bytes of compiled code, with its tables.
    pub code_len: u64,
}

/// A loaded image: ready to start tasks.
#[derive(Clone)]
pub struct Image {
    engine: Engine,
    module: Module,
    meta: Arc<Metadata>,
    digest: Digest,
    options: Options,
    form: Form,
}

impl core::fmt::Debug for Image {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Image").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// Whether bytes look like an image.
pub fn is_image(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl ImageInfo {
    /// Reads an image's head.
    ///
    /// # Errors
    /// [`Error::NotAnImage`] when the bytes are none, [`Error::Metadata`] when its metadata is damaged.
    pub fn parse(bytes: &[u8]) -> Result<ImageInfo, Error> {
        let (info, _) = split(bytes)?;
        Ok(info)
    }
}

fn split(bytes: &[u8]) -> Result<(ImageInfo, &[u8]), Error> {
    if !is_image(bytes) {
        return Err(Error::NotAnImage("it does not begin like one"));
    }
    if bytes.len() < FIXED {
        return Err(Error::NotAnImage("it ends early"));
    }
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if u32_at(8) != FORMAT {
        return Err(Error::NotAnImage("its format is of another version: compile it again"));
    }
    let mut module = [0; 32];
    module.copy_from_slice(&bytes[48..80]);
    let mut rest = &bytes[FIXED..];
    let mut take = |len: u64| -> Result<&[u8], Error> {
        let len = usize::try_from(len).ok().filter(|l| *l <= rest.len()).ok_or(Error::NotAnImage("it ends early"))?;
        let (head, tail) = rest.split_at(len);
        rest = tail;
        Ok(head)
    };
    let code_len = u64::from(u32_at(92)) | u64::from(u32_at(96)) << 32;
    let target = take(u64::from(u32_at(80)))?;
    let version = take(u64::from(u32_at(84)))?;
    let metadata = take(u64::from(u32_at(88)))?;
    let code = take(code_len)?;
    if !rest.is_empty() {
        return Err(Error::NotAnImage("bytes are left over at its end"));
    }
    let info = ImageInfo {
        module: Digest(module),
        target: String::from_utf8_lossy(target).into_owned(),
        version: String::from_utf8_lossy(version).into_owned(),
        options: Options { canonical_nan: u32_at(12) & CANONICAL_NAN != 0 },
        form: if u32_at(12) & STARTS_ONLY == 0 { Form::Resume } else { Form::Start },
        metadata: Metadata::decode(metadata)?,
        code_len,
    };
    Ok((info, code))
}

fn mac(key: &Key, bytes: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(&key.0);
    hasher.update(&bytes[..MAC.start]);
    #[cfg(feature = "std")]
    if bytes.len() > 1 << 20 {
        hasher.update_rayon(&bytes[MAC.end..]);
        return hasher.finalize();
    }
    hasher.update(&bytes[MAC.end..]);
    hasher.finalize()
}

/// Gives an image that is signed with one key to whoever has another.
///
/// # Errors
/// [`Error::Untrusted`] when it is not; [`Error::StaleImage`] when another version has made it.
pub fn sign_again(mut image: Vec<u8>, key: &Key, new: &Key) -> Result<Vec<u8>, Error> {
    if !is_image(&image) || image.len() < FIXED || mac(key, &image).as_bytes() != &image[MAC] {
        return Err(Error::Untrusted);
    }
    let info = ImageInfo::parse(&image)?;
    if info.version != VERSION {
        return Err(Error::StaleImage(info.version, VERSION.into()));
    }
    let mac = mac(new, &image);
    image[MAC].copy_from_slice(mac.as_bytes());
    Ok(image)
}

impl Image {
    /// Instruments and compiles a module for a target, and signs the result.
    ///
    /// # Errors
    /// [`Error::Instrument`] when the module is invalid or cannot be moved, [`Error::Compile`] when the
    /// code generator refuses it.
    #[cfg(feature = "compile")]
    pub fn compile(
        wasm: &[u8],
        target: &Target,
        options: Options,
        form: Form,
        allow_unmovable: bool,
        key: &Key,
    ) -> Result<Vec<u8>, Error> {
        let blocking = wayfare_wasi::Function::ALL.iter().filter(|f| f.may_block());
        let instrumentation = wayfare_instrument::Options {
            blocking_imports: blocking.map(|f| (wayfare_wasi::MODULE.into(), f.name().into())).collect(),
            allow_unmovable,
            resume_clones: form == Form::Resume,
            ..wayfare_instrument::Options::default()
        };
        let out = wayfare_instrument::instrument(wasm, &instrumentation)?;
        Image::assemble(wasm, &out.wasm, &out.metadata, target, options, form, key)
    }

    /// Compiles a module as it is, for comparison: its tasks cannot be captured.
    ///
    /// # Errors
    /// [`Error::Compile`] when the code generator refuses it.
    #[cfg(feature = "compile")]
    pub fn compile_plain(wasm: &[u8], target: &Target, options: Options, key: &Key) -> Result<Vec<u8>, Error> {
        let reason = "it was compiled without instrumentation".into();
        let metadata = Metadata { unmovable: alloc::vec![reason], ..Metadata::default() };
        Image::assemble(wasm, wasm, &metadata, target, options, Form::Start, key)
    }

    #[cfg(feature = "compile")]
    fn assemble(
        original: &[u8],
        wasm: &[u8],
        metadata: &Metadata,
        target: &Target,
        options: Options,
        form: Form,
        key: &Key,
    ) -> Result<Vec<u8>, Error> {
        let engine = Engine::new(&configure(target, options)?)?;
        let wasm = crate::lengths::hide(wasm, target)?;
        let code = engine.precompile_module(&wasm).map_err(|e| Error::Compile(alloc::format!("{e:#}")))?;
        let (metadata, compiled_for) = (metadata.encode(), target.of_image());
        let flags =
            if options.canonical_nan { CANONICAL_NAN } else { 0 } | if form == Form::Start { STARTS_ONLY } else { 0 };
        let mut bytes = Vec::with_capacity(FIXED + metadata.len() + code.len() + 64);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&[0; 32]);
        bytes.extend_from_slice(&Digest::of(original).0);
        for part in [compiled_for.as_bytes(), VERSION.as_bytes(), &metadata] {
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        bytes.extend_from_slice(&(code.len() as u64).to_le_bytes());
        for part in [compiled_for.as_bytes(), VERSION.as_bytes(), &metadata, &code] {
            bytes.extend_from_slice(part);
        }
        let mac = mac(key, &bytes);
        bytes[MAC].copy_from_slice(mac.as_bytes());
        Ok(bytes)
    }

    /// Loads an image for this machine.
    ///
    /// # Errors
    /// [`Error::Untrusted`] when the signature is not by `key`, [`Error::ForeignImage`] and
    /// [`Error::StaleImage`] when it was compiled for another machine or engine.
    pub fn load(bytes: &[u8], key: &Key) -> Result<Image, Error> {
        Image::load_on(bytes, key, |_| ())
    }

    /// [`Image::load`] where wasmtime must be told how to get memory, and to make code executable.
    ///
    /// # Errors
    /// As [`Image::load`].
    pub fn load_on(bytes: &[u8], key: &Key, tell: impl FnOnce(&mut wasmtime::Config)) -> Result<Image, Error> {
        if !is_image(bytes) || bytes.len() < FIXED {
            return Err(Error::NotAnImage("it does not begin like one"));
        }
        // The signature first: nothing else in the file is believed before it.
        if mac(key, bytes).as_bytes() != &bytes[MAC] {
            return Err(Error::Untrusted);
        }
        let (info, code) = split(bytes)?;
        let target = Target::parse(&info.target)?;
        if !target.runs_here() {
            return Err(Error::ForeignImage(target.to_string(), Target::host().to_string()));
        }
        if info.version != VERSION {
            return Err(Error::StaleImage(info.version, VERSION.into()));
        }
        let mut config = configure(&target, info.options)?;
        tell(&mut config);
        let engine = Engine::new(&config)?;
        // SAFETY: the bytes carry this user's signature: they are what `compile` produced from a
        // validated module, unchanged. That is `deserialize`'s condition.
        let module = unsafe { Module::deserialize(&engine, code) }
            .map_err(|e| Error::StaleImage(alloc::format!("another engine build ({e:#})"), VERSION.into()))?;
        Ok(Image {
            engine,
            module,
            meta: Arc::new(info.metadata),
            digest: info.module,
            options: info.options,
            form: info.form,
        })
    }

    /// Digest of the original module.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Options that change results.
    pub fn options(&self) -> Options {
        self.options
    }

    /// What it can do.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Migration points and their frames.
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.meta
    }

    /// Why tasks of this image cannot be captured; empty when they can.
    pub fn unmovable(&self) -> &[String] {
        &self.meta.unmovable
    }

    /// wasmtime's view of it.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The engine it was loaded in.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}
