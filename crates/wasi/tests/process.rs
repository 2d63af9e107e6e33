//! Arguments, environment, clocks, randomness, exit, and what every call has in common.
#![cfg(feature = "std")]

mod support;

use support::*;
use wayfare_wasi::{Control, Ctx, Errno, Function, ValType, Volume};

/// With a volume as descriptor 3 and a file and a directory open in it.
fn volume_guest() -> Guest<FakeHost> {
    let mut volume = Volume::new();
    volume.write_file("dir/file", b"content").unwrap();
    let ctx = Ctx::builder().volume("/v", volume, false).build();
    let mut g = Guest::new(ctx, FakeHost { room: 1 << 20, ..FakeHost::default() });
    g.open(3, "dir/file", 0, RW).unwrap();
    g.open(3, "dir", 0, R).unwrap();
    g
}

fn guest() -> Guest<FakeHost> {
    let ctx = Ctx::builder().args(["prog", "-v", "ä"]).env("HOME", "/").env("EMPTY", "").build();
    Guest::new(ctx, FakeHost { room: 1 << 20, ..FakeHost::default() })
}

#[test]
fn there_are_46_functions_and_each_is_found_by_its_name() {
    assert_eq!(Function::ALL.len(), 46);
    for &function in Function::ALL {
        assert_eq!(Function::from_name(function.name()), Some(function));
    }
    assert_eq!(Function::from_name("fd_dup"), None);
    assert_eq!(Function::FdSeek.params(), [ValType::I32, ValType::I64, ValType::I32, ValType::I32]);
    assert!(Function::FdRead.may_block() && !Function::FdPread.may_block());
    assert!(!Function::ProcExit.returns_errno());
}

#[test]
fn arguments_and_environment_arrive_as_nul_terminated_strings() {
    let mut g = guest();
    assert_eq!(g.errno("args_sizes_get", &[16, 24]), Errno::Success);
    assert_eq!((g.u32(16), g.u32(24)), (3, 5 + 3 + 3));
    assert_eq!(g.errno("args_get", &[100, 200]), Errno::Success);
    assert_eq!(g.bytes(200, 11), b"prog\0-v\0\xc3\xa4\0");
    assert_eq!([g.u32(100), g.u32(104), g.u32(108)], [200, 205, 208]);
    assert_eq!(g.errno("environ_sizes_get", &[16, 24]), Errno::Success);
    assert_eq!((g.u32(16), g.u32(24)), (2, 7 + 7));
    assert_eq!(g.errno("environ_get", &[100, 200]), Errno::Success);
    assert_eq!(g.bytes(200, 14), b"HOME=/\0EMPTY=\0");
}

#[test]
fn a_result_pointer_outside_of_memory_is_a_fault_and_has_no_effect() {
    let mut g = guest();
    let end = g.mem.len() as u64;
    assert_eq!(g.errno("args_get", &[end - 2, 0]), Errno::Fault);
    assert_eq!(g.errno("args_sizes_get", &[0, u64::from(u32::MAX)]), Errno::Fault);
    assert_eq!(g.errno("random_get", &[end, 1]), Errno::Fault);
    let mut args = g.write_args(1, b"lost?");
    args[3] = end;
    assert_eq!(g.errno("fd_write", &args), Errno::Fault);
    assert!(g.host.stdout.is_empty());
}

#[test]
fn every_function_survives_any_arguments() {
    // Not a check of results, but that no argument makes a call panic.
    let values = [0, 1, 2, 3, 4, 5, 16, 64, 4096, u64::from(u32::MAX), (1 << 20) - 4, u64::MAX, 1 << 63];
    let mut state = 1_u64;
    for _ in 0..40_000 {
        let mut g = volume_guest();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let function = Function::ALL[(state >> 33) as usize % Function::ALL.len()];
        let args: Vec<u64> = function
            .params()
            .iter()
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                values[(state >> 33) as usize % values.len()]
            })
            .collect();
        let len = if state >> 60 == 0 { 0 } else { 1 << 14 };
        g.mem.truncate(len);
        g.call(function.name(), &args);
    }
}

#[test]
fn the_wrong_number_of_arguments_is_invalid() {
    assert_eq!(guest().errno("fd_close", &[]), Errno::Inval);
}

#[test]
fn the_monotonic_clock_starts_above_zero_and_counts_only_while_the_task_runs() {
    let mut g = guest();
    let now = |g: &mut Guest<FakeHost>| {
        assert_eq!(g.errno("clock_time_get", &[1, 0, 16]), Errno::Success);
        g.u64(16)
    };
    g.host.monotonic = 5_000_000_000;
    let start = now(&mut g);
    assert!(start > 0);
    g.host.monotonic += 100;
    assert_eq!(now(&mut g), start + 100);
    g.host.monotonic += 7;
    g.ctx.pausing(&mut g.host);
    g.host.monotonic += 1_000_000;
    g.ctx.resumed(&mut g.host);
    assert_eq!(now(&mut g), start + 107);
}

#[test]
fn the_monotonic_clock_never_goes_back_on_a_host_with_another_origin() {
    let mut g = guest();
    g.host.monotonic = 5_000_000_000;
    g.errno("clock_time_get", &[1, 0, 16]);
    g.host.monotonic += 50;
    g.errno("clock_time_get", &[1, 0, 16]);
    let before = g.u64(16);
    let mut g = g.moved(FakeHost { monotonic: 3, ..FakeHost::default() });
    g.errno("clock_time_get", &[1, 0, 16]);
    assert_eq!(g.u64(16), before);
    g.host.monotonic += 10;
    g.errno("clock_time_get", &[1, 0, 16]);
    assert_eq!(g.u64(16), before + 10);
    // Even if the host's own clock is broken.
    g.host.monotonic = 0;
    g.errno("clock_time_get", &[1, 0, 16]);
    assert_eq!(g.u64(16), before + 10);
}

#[test]
fn real_time_is_the_hosts_and_processor_time_is_not_to_be_had() {
    let mut g = guest();
    g.host.realtime = 1_700_000_000_123_456_789;
    assert_eq!(g.errno("clock_time_get", &[0, 1, 16]), Errno::Success);
    assert_eq!(g.u64(16), 1_700_000_000_123_456_789);
    for (id, expect) in
        [(0, Errno::Success), (1, Errno::Success), (2, Errno::Badf), (3, Errno::Badf), (4, Errno::Inval)]
    {
        assert_eq!(g.errno("clock_res_get", &[id, 16]), expect);
        assert_eq!(g.errno("clock_time_get", &[id, 0, 16]), expect);
    }
}

#[test]
fn random_bytes_fill_the_buffer_and_nothing_else() {
    let mut g = guest();
    assert_eq!(g.errno("random_get", &[100, 3]), Errno::Success);
    assert_eq!(g.bytes(99, 5), [0, 1, 2, 3, 0]);
    assert_eq!(g.errno("random_get", &[100, 0]), Errno::Success);
}

#[test]
fn exit_is_remembered_across_a_move() {
    let mut g = guest();
    assert_eq!(g.call("proc_exit", &[42]), Control::Exit(42));
    assert_eq!(g.moved(FakeHost::default()).ctx.exit_status(), Some(42));
}

#[test]
fn raising_signals_is_not_supported_and_yielding_does_nothing() {
    let mut g = guest();
    assert_eq!(g.errno("proc_raise", &[6]), Errno::Notsup);
    assert_eq!(g.errno("proc_raise", &[31]), Errno::Inval);
    assert_eq!(g.errno("sched_yield", &[]), Errno::Success);
}
