//! What tasks on any machine have in common: where a program begins, how it ends, what it can go on from, and the host functions that its imports
//! are linked to, one for each call of WASI.

use crate::{Error, Form, Image, Machine, Run, State};
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use wasmtime::{Caller, Extern, ExternType, Func, Store, Val};
use wayfare_snapshot::{Meta, Snapshot, TaskOptions};
use wayfare_wasi::{Ctx, Function, Host, MODULE, ValType};

/// Where a program begins.
pub const ENTRY: &str = "_start";

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The program ended with this status.
    Exited(u32),
    /// The program stands still at a migration point: take its state, run it on, or both.
    Captured,
    /// The program trapped.
    Trapped(Error),
}

impl Outcome {
    /// Of a call of [`ENTRY`], or a rewind into it.
    pub(crate) fn of(run: Result<Run, Error>) -> Outcome {
        match run {
            Ok(Run::Returned) => Outcome::Exited(0),
            Ok(Run::Captured) => Outcome::Captured,
            Err(Error::Wasm(e)) => match e.downcast::<Exit>() {
                Ok(Exit(code)) => Outcome::Exited(code),
                Err(e) => Outcome::Trapped(Error::Wasm(e)),
            },
            Err(e) => Outcome::Trapped(e),
        }
    }
}

/// The program's own end.
#[derive(Debug, thiserror::Error)]
#[error("exit with status {0}")]
pub struct Exit(pub u32);

/// Does a call: arguments and results are as many as the function has.
pub type HostCall<T> = fn(&mut Caller<'_, T>, Function, &[Val], &mut [Val]) -> wasmtime::Result<()>;

/// A host function for each import, or the list of those there are none for.
pub fn link<T: 'static>(store: &mut Store<T>, image: &Image, host_call: HostCall<T>) -> Result<Vec<Extern>, Error> {
    let (mut imports, mut unknown) = (Vec::new(), Vec::new());
    for import in image.module().imports() {
        let function = (import.module() == MODULE).then(|| Function::from_name(import.name())).flatten();
        match (function, import.ty()) {
            (Some(function), ExternType::Func(ty)) if fits(function, &ty) => {
                let call = move |mut caller: Caller<'_, T>, args: &[Val], results: &mut [Val]| {
                    host_call(&mut caller, function, args, results)
                };
                imports.push(Func::new(&mut *store, ty, call).into());
            }
            _ => unknown.push(format!("{}.{}", import.module(), import.name())),
        }
    }
    if unknown.is_empty() { Ok(imports) } else { Err(Error::UnknownImports(unknown)) }
}

fn fits(function: Function, ty: &wasmtime::FuncType) -> bool {
    let params = function.params().iter().map(|p| match p {
        ValType::I32 => wasmtime::ValType::I32,
        ValType::I64 => wasmtime::ValType::I64,
    });
    let results = usize::from(function.returns_errno());
    ty.params().len() == function.params().len()
        && ty.params().zip(params).all(|(a, b)| wasmtime::ValType::eq(&a, &b))
        && ty.results().len() == results
        && ty.results().all(|r| r.is_i32())
}

/// Checks that a snapshot can go on with an image, and decodes its WASI state.
pub fn admit(image: &Image, snapshot: &Snapshot<'_>) -> Result<Ctx, Error> {
    if snapshot.meta.module != image.digest() {
        let (snapshot, module) = (snapshot.meta.module.to_string(), image.digest().to_string());
        return Err(Error::OtherModule { snapshot, module });
    }
    if snapshot.meta.base.is_some() {
        return Err(Error::DeltaOnly);
    }
    if snapshot.options.canonical_nan != image.options().canonical_nan {
        return Err(Error::OptionMismatch("another setting of --canonical-nan"));
    }
    let ctx = Ctx::decode(&snapshot.wasi).map_err(|e| Error::Misfit(e.to_string()))?;
    if image.form() == Form::Start {
        return Err(Error::StartsOnly);
    }
    Ok(ctx)
}

/// What a snapshot says of a task besides its state.
pub struct Label<'l> {
    /// The task's name.
    pub name: &'l str,
    /// Notes that travel with it.
    pub extra: &'l BTreeMap<String, String>,
    /// Where it begins.
    pub entry: &'l str,
    /// Counts its snapshots.
    pub sequence: u64,
    /// Counts its moves.
    pub epoch: u64,
    /// Nanoseconds that it has run.
    pub ran: u64,
}

/// A snapshot without pages of a captured task; the memories have their sizes.
pub fn portray<T>(
    machine: &mut Machine<T>,
    image: &Image,
    state: State,
    wasi: Vec<u8>,
    label: &Label<'_>,
) -> Snapshot<'static> {
    Snapshot {
        meta: Meta {
            module: image.digest(),
            base: None,
            sequence: label.sequence,
            epoch: label.epoch,
            progress: state.work,
            id: None,
        },
        options: TaskOptions {
            canonical_nan: image.options().canonical_nan,
            deterministic_relaxed_simd: true,
            ran: label.ran,
            entry: label.entry.into(),
            name: label.name.into(),
            extra: label.extra.clone(),
        },
        frames: Cow::Owned(state.frames),
        globals: state.globals,
        tables: state.tables,
        memories: machine.sizes(),
        dropped_data: state.dropped_data,
        dropped_elem: state.dropped_elem,
        refs: state.refs,
        wasi: Cow::Owned(wasi),
    }
}

/// Number and bytes of the strings that a call hands out, for [`crate::foresight`].
pub fn strings<H: Host>(ctx: &mut Ctx, host: &mut H, function: Function) -> (u32, u32) {
    let sizes = match function {
        Function::ArgsGet => Function::ArgsSizesGet,
        Function::EnvironGet => Function::EnvironSizesGet,
        _ => return (0, 0),
    };
    let mut out = [0; 8];
    ctx.call(host, sizes, &[0, 4], &mut out);
    let [a, b, c, d, e, f, g, h] = out;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

/// Arguments as WASI takes them.
pub fn raw(args: &[Val]) -> [u64; 16] {
    let mut raw = [0; 16];
    for (to, arg) in raw.iter_mut().zip(args) {
        *to = match arg {
            Val::I32(v) => u64::from(*v as u32),
            Val::I64(v) => *v as u64,
            _ => 0,
        };
    }
    raw
}
