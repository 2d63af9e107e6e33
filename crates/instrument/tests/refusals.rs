//! What is not a module, and what cannot be moved, is refused by name; nothing panics.

use wayfare_instrument::{Error, Options, instrument};

fn refusal(wat: &str) -> String {
    let wasm = wat::parse_str(wat).expect("valid test module");
    match instrument(&wasm, &Options::default()) {
        Err(Error::Unmovable(reasons)) => reasons[0].to_string(),
        other => panic!("not refused: {:?}", other.map(|o| o.metadata)),
    }
}

#[test]
fn code_that_names_what_is_not_there_is_invalid() {
    for body in [
        "call 7",
        "call_indirect (type 3)",
        "ref.func 9 drop",
        "data.drop 4",
        "elem.drop 4",
        "local.get 9 drop",
        "return_call 8",
        "br 5",
        "block (type 6) end",
        "i32.add",
        "(loop (br_table 9 9 (i32.const 0)))",
    ] {
        let wasm = wat::parse_str(format!("(module (func {body}))")).expect("encodes");
        let error = instrument(&wasm, &Options::default()).expect_err(body);
        assert!(matches!(error, Error::Invalid(_)), "{body}: {error}");
    }
}

#[test]
fn a_parameter_without_null_is_no_obstacle() {
    let wasm = wat::parse_str(
        r#"(module (type $t (func))
          (func $f (export "f") (param (ref $t)) (loop $l (call_ref $t (local.get 0)) (br $l))))"#,
    )
    .expect("valid test module");
    instrument(&wasm, &Options::default()).expect("instrumented");
}

#[test]
fn a_tail_call_that_returns_a_subtype_is_refused() {
    let text = refusal(
        r#"(module (type $t (func))
          (func $narrow (result (ref null $t)) (loop $l (br_if $l (i32.const 0))) (ref.null $t))
          (func $wide (export "f") (result funcref) (return_call $narrow)))"#,
    );
    assert!(text.contains("function wide") && text.contains("subtype"), "{text}");
}
