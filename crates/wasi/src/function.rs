//! The 46 functions of `wasi_snapshot_preview1` by name and signature, so that an engine can link
//! a module's imports from a table without knowing what any of them does.

/// A WebAssembly value type, as far as preview 1 uses them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValType {
    /// 32 bits: pointers, sizes, descriptors, flags.
    I32,
    /// 64 bits: file offsets, timestamps, rights, cookies.
    I64,
}

/// The module name under which guests import these functions.
pub const MODULE: &str = "wasi_snapshot_preview1";

macro_rules! functions {
    ($($variant:ident $name:literal ($($param:ident)*);)*) => {
        /// One function of preview 1.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Function { $(#[doc = $name] $variant,)* }

        impl Function {
            /// Every function, in the order of the interface definition.
            pub const ALL: &'static [Function] = &[$(Function::$variant,)*];

            /// The name a guest imports it by.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The function imported as `name`, if preview 1 has one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// The types of the parameters; see [`Function::returns_errno`] for the result.
            pub const fn params(self) -> &'static [ValType] {
                match self { $(Self::$variant => &[$(ValType::$param,)*],)* }
            }
        }
    };
}

functions! {
    ArgsGet "args_get" (I32 I32);
    ArgsSizesGet "args_sizes_get" (I32 I32);
    EnvironGet "environ_get" (I32 I32);
    EnvironSizesGet "environ_sizes_get" (I32 I32);
    ClockResGet "clock_res_get" (I32 I32);
    ClockTimeGet "clock_time_get" (I32 I64 I32);
    FdAdvise "fd_advise" (I32 I64 I64 I32);
    FdAllocate "fd_allocate" (I32 I64 I64);
    FdClose "fd_close" (I32);
    FdDatasync "fd_datasync" (I32);
    FdFdstatGet "fd_fdstat_get" (I32 I32);
    FdFdstatSetFlags "fd_fdstat_set_flags" (I32 I32);
    FdFdstatSetRights "fd_fdstat_set_rights" (I32 I64 I64);
    FdFilestatGet "fd_filestat_get" (I32 I32);
    FdFilestatSetSize "fd_filestat_set_size" (I32 I64);
    FdFilestatSetTimes "fd_filestat_set_times" (I32 I64 I64 I32);
    FdPread "fd_pread" (I32 I32 I32 I64 I32);
    FdPrestatGet "fd_prestat_get" (I32 I32);
    FdPrestatDirName "fd_prestat_dir_name" (I32 I32 I32);
    FdPwrite "fd_pwrite" (I32 I32 I32 I64 I32);
    FdRead "fd_read" (I32 I32 I32 I32);
    FdReaddir "fd_readdir" (I32 I32 I32 I64 I32);
    FdRenumber "fd_renumber" (I32 I32);
    FdSeek "fd_seek" (I32 I64 I32 I32);
    FdSync "fd_sync" (I32);
    FdTell "fd_tell" (I32 I32);
    FdWrite "fd_write" (I32 I32 I32 I32);
    PathCreateDirectory "path_create_directory" (I32 I32 I32);
    PathFilestatGet "path_filestat_get" (I32 I32 I32 I32 I32);
    PathFilestatSetTimes "path_filestat_set_times" (I32 I32 I32 I32 I64 I64 I32);
    PathLink "path_link" (I32 I32 I32 I32 I32 I32 I32);
    PathOpen "path_open" (I32 I32 I32 I32 I32 I64 I64 I32 I32);
    PathReadlink "path_readlink" (I32 I32 I32 I32 I32 I32);
    PathRemoveDirectory "path_remove_directory" (I32 I32 I32);
    PathRename "path_rename" (I32 I32 I32 I32 I32 I32);
    PathSymlink "path_symlink" (I32 I32 I32 I32 I32);
    PathUnlinkFile "path_unlink_file" (I32 I32 I32);
    PollOneoff "poll_oneoff" (I32 I32 I32 I32);
    ProcExit "proc_exit" (I32);
    ProcRaise "proc_raise" (I32);
    SchedYield "sched_yield" ();
    RandomGet "random_get" (I32 I32);
    SockAccept "sock_accept" (I32 I32 I32);
    SockRecv "sock_recv" (I32 I32 I32 I32 I32 I32);
    SockSend "sock_send" (I32 I32 I32 I32 I32);
    SockShutdown "sock_shutdown" (I32 I32);
}

impl Function {
    /// Whether a call can answer [`Control::Block`](crate::Control::Block). Each of these must be a migration point.
    /// `fd_pread` and `fd_pwrite` are not among them: they are refused on streams.
    pub const fn may_block(self) -> bool {
        matches!(
            self,
            Self::FdRead | Self::FdWrite | Self::PollOneoff | Self::SockAccept | Self::SockRecv | Self::SockSend
        )
    }

    /// Whether the function returns an `i32` error number; `proc_exit` alone returns nothing.
    pub const fn returns_errno(self) -> bool {
        !matches!(self, Self::ProcExit)
    }
}
