//! The language of the specification's test suite: its values, its patterns, its traps, its host module.

use wast::core::{AbstractHeapType, HeapType, NanPattern, V128Const, V128Pattern, WastArgCore, WastRetCore};
use wast::{WastArg, WastRet};
use wayfare_engine::wasmtime::{
    self, AnyRef, AsContextMut, ExternRef, Global, GlobalType, Linker, Memory, MemoryType, Mutability, Ref, RefType,
    Store, Table, TableType, ThrownException, Trap, Val, ValType,
};

/// A value that a script passes.
///
/// # Errors
/// What the engine says when it cannot make a reference.
pub fn argument(mut store: impl AsContextMut, arg: &WastArg<'_>) -> wasmtime::Result<Val> {
    let WastArg::Core(arg) = arg else { unreachable!("components are not parsed") };
    Ok(match arg {
        WastArgCore::I32(v) => Val::I32(*v),
        WastArgCore::I64(v) => Val::I64(*v),
        WastArgCore::F32(v) => Val::F32(v.bits),
        WastArgCore::F64(v) => Val::F64(v.bits),
        WastArgCore::V128(v) => Val::V128(bits(v).into()),
        WastArgCore::RefNull(HeapType::Abstract { ty, .. }) => match ty {
            AbstractHeapType::Func | AbstractHeapType::NoFunc => Val::FuncRef(None),
            AbstractHeapType::Extern | AbstractHeapType::NoExtern => Val::ExternRef(None),
            AbstractHeapType::Exn | AbstractHeapType::NoExn => Val::ExnRef(None),
            _ => Val::AnyRef(None),
        },
        WastArgCore::RefNull(_) => wasmtime::bail!("a null of a type that only a module knows"),
        WastArgCore::RefExtern(n) => Val::ExternRef(Some(ExternRef::new(&mut store, *n)?)),
        WastArgCore::RefHost(n) => {
            let host = ExternRef::new(&mut store, *n)?;
            Val::AnyRef(Some(AnyRef::convert_extern(&mut store, host)?))
        }
    })
}

fn bits(v: &V128Const) -> u128 {
    u128::from_le_bytes(v.to_le_bytes())
}

/// Whether a value is what a script expects; otherwise what it is.
///
/// # Errors
/// The value and the pattern, as text.
pub fn expect<T: 'static>(store: &mut Store<T>, value: &Val, pattern: &WastRet<'_>) -> Result<(), String> {
    let WastRet::Core(pattern) = pattern else { unreachable!("components are not parsed") };
    match matches(store, value, pattern) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{value:?} is not {pattern:?}")),
        Err(e) => Err(format!("{value:?}: {e:#}")),
    }
}

fn matches<T: 'static>(store: &mut Store<T>, value: &Val, pattern: &WastRetCore<'_>) -> wasmtime::Result<bool> {
    use WastRetCore as P;
    Ok(match (value, pattern) {
        (_, P::Either(all)) => {
            for one in all {
                if matches(store, value, one)? {
                    return Ok(true);
                }
            }
            false
        }
        (Val::I32(v), P::I32(p)) => v == p,
        (Val::I64(v), P::I64(p)) => v == p,
        (Val::F32(v), P::F32(p)) => f32_matches(*v, p),
        (Val::F64(v), P::F64(p)) => f64_matches(*v, p),
        (Val::V128(v), P::V128(p)) => v128_matches(v.as_u128(), p),
        (Val::FuncRef(None) | Val::ExternRef(None) | Val::AnyRef(None) | Val::ExnRef(None), P::RefNull(None)) => true,
        (value, P::RefNull(Some(HeapType::Abstract { ty, .. }))) => {
            use AbstractHeapType as H;
            match value {
                Val::FuncRef(None) => matches!(ty, H::Func | H::NoFunc),
                Val::ExternRef(None) => matches!(ty, H::Extern | H::NoExtern),
                Val::ExnRef(None) => matches!(ty, H::Exn | H::NoExn),
                Val::AnyRef(None) => matches!(ty, H::Any | H::Eq | H::I31 | H::Struct | H::Array | H::None),
                _ => false,
            }
        }
        (Val::FuncRef(None) | Val::AnyRef(None), P::RefNull(Some(_))) => true,
        (Val::FuncRef(Some(_)), P::RefFunc(_)) => true,
        (Val::ExternRef(Some(_)), P::RefExtern(None)) => true,
        (Val::ExternRef(Some(r)), P::RefExtern(Some(n))) => {
            r.data(&*store)?.and_then(|d| d.downcast_ref::<u32>()) == Some(n)
        }
        (Val::AnyRef(Some(r)), P::RefHost(n)) => {
            let host = ExternRef::convert_any(&mut *store, *r)?;
            host.data(&*store)?.and_then(|d| d.downcast_ref::<u32>()) == Some(n)
        }
        (Val::AnyRef(Some(_)), P::RefAny) => true,
        (Val::AnyRef(Some(r)), P::RefEq) => r.is_eqref(&*store)?,
        (Val::AnyRef(Some(r)), P::RefI31) => r.is_i31(&*store)?,
        (Val::AnyRef(Some(r)), P::RefStruct) => r.is_struct(&*store)?,
        (Val::AnyRef(Some(r)), P::RefArray) => r.is_array(&*store)?,
        _ => false,
    })
}

fn f32_matches(v: u32, p: &NanPattern<wast::token::F32>) -> bool {
    match p {
        NanPattern::CanonicalNan => v & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => v & 0x7fc0_0000 == 0x7fc0_0000,
        NanPattern::Value(p) => v == p.bits,
    }
}

fn f64_matches(v: u64, p: &NanPattern<wast::token::F64>) -> bool {
    match p {
        NanPattern::CanonicalNan => v & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => v & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        NanPattern::Value(p) => v == p.bits,
    }
}

fn v128_matches(v: u128, p: &V128Pattern) -> bool {
    let bytes = v.to_le_bytes();
    let u32_at = |i: usize| u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
    let u64_at = |i: usize| u64::from(u32_at(2 * i)) | u64::from(u32_at(2 * i + 1)) << 32;
    match p {
        V128Pattern::I8x16(p) => (0..16).all(|i| bytes[i] == p[i] as u8),
        V128Pattern::I16x8(p) => (0..8).all(|i| [bytes[2 * i], bytes[2 * i + 1]] == p[i].to_le_bytes()),
        V128Pattern::I32x4(p) => (0..4).all(|i| u32_at(i) == p[i] as u32),
        V128Pattern::I64x2(p) => (0..2).all(|i| u64_at(i) == p[i] as u64),
        V128Pattern::F32x4(p) => (0..4).all(|i| f32_matches(u32_at(i), &p[i])),
        V128Pattern::F64x2(p) => (0..2).all(|i| f64_matches(u64_at(i), &p[i])),
    }
}

/// Whether an error is the trap that a script names. The suite and the engine word some of them differently.
pub fn is_trap(e: &wasmtime::Error, expected: &str) -> bool {
    let Some(trap) = e.downcast_ref::<Trap>() else {
        // Segments that do not fit, and tables or memories that cannot be had, are not traps of code.
        return format!("{e:#}").contains(expected) || expected.starts_with("out of bounds");
    };
    match expected {
        e if e.starts_with("uninitialized") => *trap == Trap::IndirectCallToNull,
        e if e.starts_with("undefined") => *trap == Trap::TableOutOfBounds,
        e if e.starts_with("null ") && e.ends_with("reference") => *trap == Trap::NullReference,
        "out of bounds array access" => {
            matches!(trap, Trap::ArrayOutOfBounds | Trap::MemoryOutOfBounds | Trap::TableOutOfBounds)
        }
        "out of bounds memory access" => *trap == Trap::MemoryOutOfBounds,
        e if e.starts_with("out of bounds table access") => *trap == Trap::TableOutOfBounds,
        "cast failure" => *trap == Trap::CastFailure,
        "call stack exhausted" => *trap == Trap::StackOverflow,
        "unreachable" => *trap == Trap::UnreachableCodeReached,
        "integer divide by zero" => *trap == Trap::IntegerDivisionByZero,
        "integer overflow" => *trap == Trap::IntegerOverflow,
        "invalid conversion to integer" => *trap == Trap::BadConversionToInteger,
        e if e.starts_with("indirect call type mismatch") => *trap == Trap::BadSignature,
        other => trap.to_string().contains(other),
    }
}

/// Whether an error is an exception that nobody caught.
pub fn is_exception(e: &wasmtime::Error) -> bool {
    e.is::<ThrownException>()
}

/// The host module that the suite expects, in one store.
///
/// # Errors
/// What the engine says.
pub fn spectest(store: &mut Store<()>) -> wasmtime::Result<Linker<()>> {
    let mut linker = Linker::new(store.engine());
    linker.allow_shadowing(true);
    linker.func_wrap("spectest", "print", || {})?;
    linker.func_wrap("spectest", "print_i32", |_: i32| {})?;
    linker.func_wrap("spectest", "print_i64", |_: i64| {})?;
    linker.func_wrap("spectest", "print_f32", |_: f32| {})?;
    linker.func_wrap("spectest", "print_f64", |_: f64| {})?;
    linker.func_wrap("spectest", "print_i32_f32", |_: i32, _: f32| {})?;
    linker.func_wrap("spectest", "print_f64_f64", |_: f64, _: f64| {})?;
    for (name, ty, value) in [
        ("global_i32", ValType::I32, Val::I32(666)),
        ("global_i64", ValType::I64, Val::I64(666)),
        ("global_f32", ValType::F32, Val::F32(666.6f32.to_bits())),
        ("global_f64", ValType::F64, Val::F64(666.6f64.to_bits())),
    ] {
        let global = Global::new(&mut *store, GlobalType::new(ty, Mutability::Const), value)?;
        linker.define(&mut *store, "spectest", name, global)?;
    }
    let table = Table::new(&mut *store, TableType::new(RefType::FUNCREF, 10, Some(20)), Ref::Func(None))?;
    linker.define(&mut *store, "spectest", "table", table)?;
    let table = Table::new(&mut *store, TableType::new64(RefType::FUNCREF, 10, Some(20)), Ref::Func(None))?;
    linker.define(&mut *store, "spectest", "table64", table)?;
    let memory = Memory::new(&mut *store, MemoryType::new(1, Some(2)))?;
    linker.define(&mut *store, "spectest", "memory", memory)?;
    Ok(linker)
}
