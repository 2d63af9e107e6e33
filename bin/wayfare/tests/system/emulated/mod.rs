//! Machines that QEMU emulates, with no operating system. What tests them waits for one processor of theirs most of the time, and
//! one machine at a time (`support::board::alone`): `./x test` has them go on beside the others.

mod boards;
mod boots;
mod controller;
mod faults;
mod programs;
mod restart;
mod smp;
mod standby;
