//! The whole system: real processes, links and machines, each test with directories of its own.
//!
//! All are one program, which takes less to build and to link than one for each file, and whose tests take turns: as many at once
//! as `RUST_TEST_THREADS` says.

mod afar;
mod controller;
mod emulated;
mod faults;
mod isas;
mod kept;
mod late;
mod moving;
mod nodes;
mod outages;
mod plan;
mod refusals;
mod security;
mod sets;
mod shortages;
mod spans;
mod standby;
mod standbys;
mod support;
mod thesis_guests;
