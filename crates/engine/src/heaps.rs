//! How many heaps glibc's allocator makes. By default it makes eight for each core and never gives back what lies
//! between others in them: a process in which a thread comes and goes with each task grows for thousands of moves
//! until all of them are full (3 to 5 MB with two cores; with two heaps it holds a seventh less, and does not grow).

/// Two heaps for all threads of this process; where the C library is another than glibc, nothing is done. Call it
/// before there are threads: heaps that exist stay.
pub fn few() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt takes two integers and only sets a limit, under the allocator's own lock.
        // What it answers tells of an unknown parameter only: then all is as it was.
        let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
    }
}
