/* The tag that a longjmp throws under LLVM's `-wasm-enable-sjlj`: its one argument is the address of {env, value}.
 * zig's C library has the functions behind setjmp and longjmp, but is built without exceptions and so without the tag. */
__asm__(".globl __c_longjmp\n"
        ".tagtype __c_longjmp i32\n"
        "__c_longjmp:\n");
