//! A captured and resumed computation ends as an undisturbed one, whatever the module is made of.

use std::sync::Arc;
use wasmtime::{Engine, Instance, Module, Store, Val};
use wayfare_engine::{Machine, Options, Run, Target, configure};
use wayfare_instrument::meta::{Frame, PointKind};
use wayfare_instrument::{Options as Instrument, instrument};
use wayfare_snapshot::MemoryState;

fn machine(wat: &str, chunk: u32) -> impl Fn() -> Machine<()> {
    let wasm = wat::parse_str(wat).expect("valid test module");
    let options = Instrument { countdown: true, chunk, ..Instrument::default() };
    let out = instrument(&wasm, &options).expect("instruments");
    let engine = Engine::new(&configure(&Target::host(), Options::default()).unwrap()).unwrap();
    let module = Module::new(&engine, &out.wasm).expect("compiles");
    let meta = Arc::new(out.metadata);
    move || {
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        Machine::new(store, instance, meta.clone()).unwrap()
    }
}

/// Runs `f(args)` undisturbed, then captured at every poll and moved to a fresh machine each time.
fn moves_unnoticed(wat: &str, args: &[Val], expect: &[Val]) {
    // Counted loops that poll after every turn.
    moves_in_chunks(1, wat, args, expect);
}

fn moves_in_chunks(chunk: u32, wat: &str, args: &[Val], expect: &[Val]) {
    let fresh = machine(wat, chunk);
    let mut results = vec![Val::I32(0); expect.len()];
    let mut plain = fresh();
    assert_eq!(plain.call("f", args, &mut results).unwrap(), Run::Returned);
    assert_eq!(format!("{results:?}"), format!("{expect:?}"), "undisturbed");
    let work = plain.work();
    counts_alike(&fresh, args, expect.len(), work);
    for stride in [0, 1, 2, 7] {
        let mut m = fresh();
        m.arm(Some(stride)).unwrap();
        let mut run = m.call("f", args, &mut results).unwrap();
        let mut moves = 0;
        while run == Run::Captured {
            m = moved(&mut m, &fresh);
            m.arm(Some(stride + 1)).unwrap();
            run = m.rewind(&mut results).unwrap();
            moves += 1;
            assert!(moves < 100_000, "makes progress");
        }
        assert!(moves > 0 || stride > 0, "was captured");
        assert_eq!(format!("{results:?}"), format!("{expect:?}"), "stride {stride}, {moves} moves");
        assert_eq!(m.work(), work, "work, stride {stride}, {moves} moves");
    }
}

/// A fresh machine in a captured one's state.
fn moved(m: &mut Machine<()>, fresh: &impl Fn() -> Machine<()>) -> Machine<()> {
    let state = m.state().unwrap();
    let owned = |m: &MemoryState<'_>| m.clone().into_owned();
    let memories: Vec<_> = m.memories().iter().map(owned).collect();
    let mut next = fresh();
    next.restore_memories(&memories[..]).unwrap();
    next.restore(&state).unwrap();
    next
}

/// Where a captured machine stands: functions, points and live values of its frames, and its globals.
type Place = (Vec<(u32, usize, Vec<Vec<u8>>)>, String);

fn place(m: &mut Machine<()>) -> (Place, PointKind) {
    let state = m.state().unwrap();
    let frames = m.metadata().frames(&state.frames).unwrap();
    let values = |f: &Frame<'_>| {
        // References are by the number under which they were saved.
        let slots = f.function.points[f.point].live.iter().map(|slot| f.function.slots[*slot as usize]);
        let slots = slots.filter(|slot| !slot.ty.is_reference());
        slots.map(|s| f.bytes[s.offset as usize..(s.offset + s.ty.size()) as usize].to_vec()).collect()
    };
    let stack = frames.iter().map(|f| (f.function.index, f.point, values(f))).collect();
    let last = frames.last().expect("it is captured");
    ((stack, format!("{:?}", state.globals)), last.function.points[last.point].kind)
}

/// The work done at a poll is the same whether the polls before captured, too, and moved the machine, or none did, and in
/// the end it is `work`.
fn counts_alike(fresh: &impl Fn() -> Machine<()>, args: &[Val], results: usize, work: u64) {
    let mut results = vec![Val::I32(0); results];
    let mut undisturbed = Vec::new();
    for k in 0..400 {
        let mut m = fresh();
        m.arm(Some(k)).unwrap();
        if m.call("f", args, &mut results).unwrap() == Run::Returned {
            break;
        }
        undisturbed.push((place(&mut m).0, m.work()));
        // Polls stay armed during a resume: "never" is a number, too.
        m.arm(Some(u32::MAX)).unwrap();
        assert_eq!(m.rewind(&mut results).unwrap(), Run::Returned);
        assert_eq!(m.work(), work, "captured at poll {k} alone");
    }
    let counts: Vec<u64> = undisturbed.iter().map(|(_, work)| *work).collect();
    assert!(counts.is_sorted() && counts.iter().all(|w| *w <= work), "{counts:?}");
    let mut rest = undisturbed.iter();
    let mut m = fresh();
    m.arm(Some(0)).unwrap();
    let mut run = m.call("f", args, &mut results).unwrap();
    let mut captures = 0;
    while run == Run::Captured {
        captures += 1;
        let (here, kind) = place(&mut m);
        // A resumed frame passes no poll after the call that it resumed in, so not all of them are met.
        if let Some((_, expect)) = rest.by_ref().find(|(place, _)| *place == here) {
            assert_eq!(m.work(), *expect, "at capture {captures}, {kind:?}");
        } else {
            assert!(undisturbed.len() == 400, "capture {captures} is at no poll of an undisturbed run");
        }
        // At a loop it can be captured once more before it has turned.
        let passed_again = kind == PointKind::Loop;
        if passed_again && captures % 3 == 0 {
            let before = m.work();
            m.arm(Some(0)).unwrap();
            assert_eq!(m.rewind(&mut results).unwrap(), Run::Captured);
            assert_eq!(m.work(), before, "captured twice in one place");
        }
        m = moved(&mut m, fresh);
        m.arm(Some(u32::from(passed_again) + if captures < 300 { 0 } else { u32::MAX - 1 })).unwrap();
        run = m.rewind(&mut results).unwrap();
    }
    assert_eq!(m.work(), work, "after {captures} captures in a row");
}

#[test]
fn no_computation_goes_on_without_being_counted() {
    let trees = [
        // Branches in itself; in a function that calls it; in one that is called by table.
        "(func $f (export \"f\") (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))
           (call $f (i32.sub (local.get 0) (i32.const 1))))))",
        "(func $f (export \"f\") (param i32) (if (local.get 0) (then (call $g (i32.sub (local.get 0) (i32.const 1))))))
         (func $g (param i32) (call $f (local.get 0)) (call $f (local.get 0)))",
        "(table funcref (elem $g)) (type $t (func (param i32)))
         (func $f (export \"f\") (param i32)
           (if (local.get 0) (then (call_indirect (type $t) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0)))))
         (func $g (type $t) (call $f (local.get 0)) (call $f (local.get 0)))",
        // In a loop that its own calls cover, whichever of them is a leaf.
        "(func $f (export \"f\") (param i32) (loop $l (if (local.get 0) (then
           (call $f (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))) (br $l)))))",
    ];
    for tree in trees {
        let mut m = machine(&format!("(module {tree})"), 1)();
        assert_eq!(m.call("f", &[Val::I32(12)], &mut []).unwrap(), Run::Returned);
        // Of 2^12 or 2^13 invocations.
        assert!(m.work() >= 1 << 10, "{} for {tree}", m.work());
    }
}

#[test]
fn work_is_counted_alike_in_all_kinds_of_loops_and_calls() {
    // Loops that are left by branches of all kinds, from a loop that counts its turns in a register; a loop covered by a
    // call, closed by a table; one covered by an inner loop; recursion whose calls are in a loop; a throw out of a loop.
    moves_unnoticed(
        r#"(module
          (tag $e (param i32))
          (func $skip (param $x i32) (result i32)
            (block $out (result i32)
              (block $small
                (block $big
                  (loop $l
                    (if (i32.eqz (local.get $x)) (then (return (i32.const 3))))
                    (local.set $x (i32.sub (local.get $x) (i32.const 1)))
                    (br_if $big (i32.gt_u (local.get $x) (i32.const 90)))
                    (br_table $l $l $small $l $l (i32.and (local.get $x) (i32.const 7)))))
                (br $out (i32.const 5)))
              (i32.const 7)))
          (func $tree (param $n i32) (param $width i32) (result i32) (local $i i32) (local $sum i32)
            (if (i32.eqz (local.get $n)) (then (return (i32.const 1))))
            (local.set $i (local.get $width))
            (loop $children
              (local.set $sum (i32.add (local.get $sum) (call $tree (i32.sub (local.get $n) (i32.const 1)) (local.get $i))))
              (block $done
                (br_table $children $done (i32.le_s (local.tee $i (i32.sub (local.get $i) (i32.const 1))) (i32.const 0)))))
            (i32.add (local.get $sum) (call $tree (i32.sub (local.get $n) (i32.const 1)) (i32.const 1))))
          (func $search (param $n i32)
            (loop $l
              (local.set $n (i32.shr_u (local.get $n) (i32.const 1)))
              (if (i32.eq (local.get $n) (i32.const 6)) (then (throw $e (local.get $n))))
              (br_if $l (local.get $n))))
          (func $nest (param $n i32) (result i32) (local $i i32) (local $sum i32)
            (loop $outer
              (local.set $i (local.get $n))
              (loop $inner
                (local.set $sum (i32.add (local.get $sum) (local.get $i)))
                (br_if $outer (i32.eqz (local.tee $n (i32.sub (local.get $n) (i32.eq (local.get $i) (i32.const 2))))))
                (br_if $inner (i32.gt_s (local.tee $i (i32.sub (local.get $i) (i32.const 2))) (i32.const 0))))
              (br_if $outer (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 1))) (i32.const 0))))
            (local.get $sum))
          (func (export "f") (param i32) (result i32) (local $sum i32) (local $i i32)
            (loop $l
              (local.set $sum (i32.add (local.get $sum) (call $skip (i32.mul (local.get $i) (i32.const 13)))))
              (block $caught (result i32)
                (try_table (catch $e $caught) (call $search (i32.add (local.get $i) (i32.const 20))))
                (i32.const 1))
              (local.set $sum (i32.add (local.get $sum)))
              (br_if $l (i32.lt_s (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))
            (i32.add (i32.add (local.get $sum) (call $tree (local.get 0) (i32.const 3))) (call $nest (i32.const 9)))))"#,
        &[Val::I32(3)],
        &[Val::I32(177)],
    );
}

#[test]
fn recursion_without_a_loop_moves() {
    moves_unnoticed(
        r#"(module (func $f (export "f") (param i32) (result i32)
            (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
              (then (local.get 0))
              (else (i32.add (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 2))))))))"#,
        &[Val::I32(9)],
        &[Val::I32(34)],
    );
}

#[test]
fn nested_loops_with_calls_move() {
    moves_unnoticed(
        r#"(module (memory 1) (global $g (mut i64) (i64.const 5))
          (func $inner (param i32) (result i32) (local i32 i32)
            (loop $l
              (local.set 2 (i32.add (local.get 2) (local.get 1)))
              (global.set $g (i64.add (global.get $g) (i64.const 3)))
              (local.set 1 (i32.add (local.get 1) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get 1) (local.get 0))))
            (local.get 2))
          (func (export "f") (param i32) (result i32 i64) (local $i i32) (local $s i32)
            (loop $outer
              (local.set $s (i32.add (local.get $s) (call $inner (i32.add (local.get $i) (i32.const 1)))))
              (block $skip
                (br_if $skip (i32.and (local.get $i) (i32.const 1)))
                (i32.store (i32.shl (local.get $i) (i32.const 12))
                   (i32.add (i32.const 7) (i32.mul (i32.const 3) (call $inner (i32.const 3)))))
                (local.set $s (i32.add (local.get $s) (i32.load (i32.shl (local.get $i) (i32.const 12))))))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $outer (i32.ne (local.get $i) (local.get 0))))
            (local.get $s) (global.get $g)))"#,
        &[Val::I32(6)],
        &[Val::I32(83), Val::I64(5 + 3 * (1 + 2 + 3 + 4 + 5 + 6 + 9))],
    );
}

#[test]
fn operands_under_a_call_and_block_values_move() {
    moves_unnoticed(
        r#"(module
          (func $three (param i32) (result i32 f64 i64) (local $k i32)
            (loop $l (local.set $k (i32.add (local.get $k) (i32.const 1))) (br_if $l (i32.lt_s (local.get $k) (local.get 0))))
            (local.get $k) (f64.const 1.5) (i64.const 11))
          (func (export "f") (param i32) (result f64)
            (f64.const 100) (i64.const 1000) (i32.const 3)
            (block (param i32) (result i32 f64 i64)
              (if (param i32) (result i32 f64 i64) (local.get 0)
                (then (call $three))
                (else (f64.const 2) (i64.const 3))))
            (drop) (drop)
            (f64.convert_i32_s)
            (drop (i32.const 9))
            (loop $again (param f64) (result f64)
              (f64.add (f64.const 1))
              (br_if $again (f64.lt (f64.const 3) (f64.convert_i32_s (local.get 0)))))
            (f64.add)
            )
          )"#.replace("(f64.const 100) (i64.const 1000) (i32.const 3)", "(f64.const 100) (i32.const 3)").as_str(),
        &[Val::I32(1)],
        &[Val::F64(104f64.to_bits())],
    );
}

#[test]
fn function_references_in_locals_globals_and_tables_move() {
    moves_unnoticed(
        r#"(module
          (type $t (func (param i32) (result i32)))
          (table $tab 4 funcref)
          (global $g (mut funcref) (ref.null func))
          (elem declare func $a $b)
          (func $a (type $t) (local i32) (loop $l (local.set 1 (i32.add (local.get 1) (i32.const 1))) (br_if $l (i32.lt_s (local.get 1) (i32.const 3)))) (i32.add (local.get 0) (i32.const 1)))
          (func $b (type $t) (i32.mul (call $a (local.get 0)) (i32.const 10)))
          (func (export "f") (param i32) (result i32) (local $r funcref) (local $k i32)
            (local.set $r (ref.func $b))
            (global.set $g (ref.func $a))
            (table.set $tab (i32.const 2) (ref.func $b))
            (loop $l
              (local.set 0 (call_indirect $tab (type $t) (local.get 0) (i32.const 2)))
              (table.set $tab (i32.const 1) (local.get $r))
              (local.set 0 (call_indirect $tab (type $t) (local.get 0) (i32.const 1)))
              (table.set $tab (i32.const 2) (global.get $g))
              (local.set $k (i32.add (local.get $k) (i32.const 1)))
              (br_if $l (i32.lt_s (local.get $k) (i32.const 2))))
            (local.get 0)))"#,
        &[Val::I32(1)],
        &[Val::I32(2120)],
    );
}

#[test]
fn exceptions_pass_through_a_capture_inside_a_try() {
    moves_unnoticed(
        r#"(module
          (tag $e (param i32 i64))
          (func $spin (param i32) (local i32) (loop $l (local.set 1 (i32.add (local.get 1) (i32.const 1))) (br_if $l (i32.lt_s (local.get 1) (local.get 0)))))
          (func $thrower (param i32) (call $spin (local.get 0)) (throw $e (local.get 0) (i64.const 77)))
          (func (export "f") (param i32) (result i64) (local $all i32)
            (i64.const 1000)
            (block $caught (result i32 i64)
              (block $any
                (try_table (catch_all $any)
                  (call $spin (i32.const 4))
                  (try_table (catch $e $caught)
                    (call $spin (i32.const 2))
                    (call $thrower (local.get 0))))
                (unreachable))
              (i32.const 0) (i64.const -1))
            (call $spin (i32.const 3))
            (local.set $all (i32.const 0))
            (drop (i32.const 5))
            (i64.add (i64.const 0))
            (local.set $all)
            (i64.extend_i32_s (local.get $all))
            (i64.add) )
          )"#.replace("(local.set $all)\n", "").replace("(i64.add (i64.const 0))", "(local.set $x) (local.set $all) (local.get $x) (i64.add)").replace("(local $all i32)", "(local $all i32) (local $x i64)").as_str(),
        &[Val::I32(5)],
        &[Val::I64(1082)],
    );
}

#[test]
fn tail_calls_move() {
    moves_unnoticed(
        r#"(module
          (func $even (param i32 i64) (result i64)
            (if (result i64) (i32.eqz (local.get 0)) (then (local.get 1))
              (else (return_call $odd (i32.sub (local.get 0) (i32.const 1)) (f32.const 2) (i64.add (local.get 1) (i64.const 1))))))
          (func $odd (param i32 f32 i64) (result i64)
            (if (result i64) (i32.eqz (local.get 0)) (then (i64.const -1))
              (else (return_call $even (i32.sub (local.get 0) (i32.const 1)) (i64.add (local.get 2) (i64.const 2))))))
          (func (export "f") (param i32) (result i64)
            (i64.add (i64.const 5) (call $even (local.get 0) (i64.const 0)))))"#,
        &[Val::I32(10)],
        &[Val::I64(20)],
    );
}

#[test]
fn counted_loops_in_chunks_count_right() {
    for (start, bound, step, cmp) in [
        (0, 300_000, 1, "ne"),
        (0, 300_000, 4, "ne"),
        (300_000, 0, -1, "ne"),
        (5, 200_005, 8, "ne"),
        (0, 200_000, 3, "lt_s"),
        (7, 250_001, 5, "lt_u"),
        (0, -200_000, -3, "gt_s"),
    ] {
        let wat = format!(
            r#"(module (func (export "f") (param i32) (result i32) (local $i i32) (local $n i32) (local $c i32)
                (local.set $i (i32.const {start})) (local.set $n (i32.const {bound}))
                (loop $l
                  (local.set $c (i32.add (local.get $c) (i32.const 1)))
                  (br_if $l (i32.{cmp} (local.tee $i (i32.add (local.get $i) (i32.const {step}))) (local.get $n))))
                (local.get $c)))"#
        );
        let (mut i, mut count) = (start as i64, 0);
        loop {
            i += step as i64;
            count += 1;
            let go = match cmp {
                "ne" => i != bound as i64,
                "gt_s" => i > bound as i64,
                _ => i < bound as i64,
            };
            if !go {
                break;
            }
        }
        moves_in_chunks(Instrument::default().chunk, &wat, &[Val::I32(0)], &[Val::I32(count)]);
        moves_in_chunks(100_000, &wat, &[Val::I32(0)], &[Val::I32(count)]);
    }
}

#[test]
fn one_result_type_under_two_names_moves() {
    moves_unnoticed(
        r#"(module
          (type $a (func (result i32)))
          (type $b (func (result i32)))
          (type $one (func (param i32) (result (ref null $a))))
          (type $two (func (param i32) (result (ref null $b))))
          (table funcref (elem $make $seven))
          (func $seven (type $a) (i32.const 7))
          (func $make (type $one) (local $i i32)
            (loop $l
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $i) (local.get 0))))
            (ref.func $seven))
          (func (export "f") (param i32) (result i32)
            (call_ref $b (call_indirect (type $two) (local.get 0) (i32.const 0)))))"#,
        &[Val::I32(5)],
        &[Val::I32(7)],
    );
}

#[test]
fn calls_that_all_end_in_an_exception_can_be_captured() {
    // No call of $f returns: it throws how often it was called below, and calls itself again when it catches that.
    moves_unnoticed(
        r#"(module
          (tag $e (param i32))
          (func $f (param $n i32) (local $sum i32)
            (if (i32.eqz (local.get $n)) (then (throw $e (i32.const 1))))
            (local.set $sum (block $first (result i32)
              (try_table (catch $e $first) (call $f (i32.sub (local.get $n) (i32.const 1))))
              (unreachable)))
            (local.set $sum (i32.add (local.get $sum) (block $second (result i32)
              (try_table (catch $e $second) (call $f (i32.sub (local.get $n) (i32.const 1))))
              (unreachable))))
            (throw $e (local.get $sum)))
          (func (export "f") (param i32) (result i32)
            (block $end (result i32)
              (try_table (catch $e $end) (call $f (local.get 0)))
              (unreachable))))"#,
        &[Val::I32(6)],
        &[Val::I32(64)],
    );
}

#[test]
fn caught_exceptions_move() {
    // As C++ cleans up: catch all by reference, run destructors, throw it again; and one kept on the stack.
    let wat = r#"(module
          (type $t (func (param i32) (result i32)))
          (tag $none)
          (tag $e (param i32 i64 (ref $t)))
          (tag $wide (param v128))
          (global $ran (mut i64) (i64.const 0))
          (elem declare func $double)
          (func $double (type $t) (i32.shl (local.get 0) (i32.const 1)))
          (func $spin (param i32) (local i32)
            (loop $l
              (local.set 1 (i32.add (local.get 1) (i32.const 1)))
              (br_if $l (i32.lt_s (local.get 1) (local.get 0)))))
          (func $destructor (param i64)
            (call $spin (i32.const 3))
            (global.set $ran (i64.add (i64.mul (global.get $ran) (i64.const 10)) (local.get 0))))
          (func $throws (param $kind i32)
            (call $spin (i32.const 2))
            (if (i32.eq (local.get $kind) (i32.const 1))
              (then (throw $e (i32.const 21) (i64.const 100000) (ref.func $double))))
            (if (i32.eq (local.get $kind) (i32.const 2)) (then (throw $wide (v128.const i64x2 7 9))))
            (if (i32.eq (local.get $kind) (i32.const 3)) (then (throw $none))))
          (func $cleans_up (param $kind i32) (local $x exnref)
            (local.set $x (block $caught (result exnref)
              (try_table (catch_all_ref $caught) (call $throws (local.get $kind)))
              (call $destructor (i64.const 9))
              (return)))
            (call $destructor (i64.const 1))
            (call $destructor (i64.const 2))
            (throw_ref (local.get $x)))
          (func $handles (param $kind i32) (result i64) (local $x (ref null exn)) (local $f (ref null $t)) (local $n i32) (local $big i64)
            (block $none (result exnref)
              (block $wide (result v128)
                (block $e (result i32 i64 (ref $t) (ref exn))
                  (try_table (catch_ref $e $e) (catch $wide $wide) (catch_all_ref $none) (call $cleans_up (local.get $kind)))
                  (return (global.get $ran)))
                (call $destructor (i64.const 3))
                (local.set $x)
                (local.set $f)
                (local.set $big)
                (local.set $n)
                ;; Once more, with the one that was kept; what it carried stays on the stack.
                (block $again (result i32 i64 (ref $t))
                  (try_table (catch $e $again) (call $spin (i32.const 4)) (throw_ref (local.get $x)))
                  (unreachable))
                (call $destructor (i64.const 4))
                (local.set $f)
                (i64.add (global.get $ran))
                (local.set $big)
                (i64.extend_i32_s (call_ref $t (local.get $f)))
                (i64.add (local.get $big))
                (return))
              (call $spin (i32.const 2))
              (return (i64.mul (i64x2.extract_lane 1) (global.get $ran))))
            (call $destructor (i64.const 5))
            (drop)
            (return (global.get $ran)))
          (func (export "f") (param i32) (result i64)
            (i64.add (i64.mul (call $handles (i32.const 0)) (i64.const 1000000)) (call $handles (local.get 0)))))"#;
    for (kind, expected) in [(1, 9_191_276), (2, 9_008_208), (3, 9_009_125)] {
        moves_unnoticed(wat, &[Val::I32(kind)], &[Val::I64(expected)]);
    }
}

#[test]
fn an_exception_that_cannot_be_is_refused() {
    let fresh = machine(
        r#"(module
          (tag $e (param i32))
          (func $spin (param i32) (local i32)
            (loop $l
              (local.set 1 (i32.add (local.get 1) (i32.const 1)))
              (br_if $l (i32.lt_s (local.get 1) (local.get 0)))))
          (func (export "f") (param i32) (result i32) (local $x exnref)
            (block $again (result i32)
              (try_table (catch $e $again)
                (local.set $x (block $caught (result exnref)
                  (try_table (catch_all_ref $caught) (throw $e (local.get 0)))
                  (unreachable)))
                (call $spin (i32.const 5))
                (throw_ref (local.get $x)))
              (unreachable))))"#,
        1,
    );
    let mut m = fresh();
    let mut results = [Val::I32(0)];
    m.arm(Some(2)).unwrap();
    assert_eq!(m.call("f", &[Val::I32(9)], &mut results).unwrap(), Run::Captured);
    let state = m.state().unwrap();
    let mut next = fresh();
    next.restore(&state).unwrap();
    next.arm(Some(1000)).unwrap();
    assert_eq!(next.rewind(&mut results).unwrap(), Run::Returned);
    assert_eq!(results[0].unwrap_i32(), 9);

    // The word before the exception's only value, 9, is its tag.
    let at = state.frames.windows(8).position(|w| w == [1, 0, 0, 0, 9, 0, 0, 0]).expect("an exception");
    let mut damaged = state.clone();
    damaged.frames[at] = 2;
    assert!(fresh().restore(&damaged).is_err());
}
