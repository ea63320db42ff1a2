//! All `unsafe` of the project.

use std::ffi::{c_char, c_int, c_void};

use bytes::Bytes;
use rustler::sys::{
    ErlNifBinary, ErlNifEnv, enif_alloc_env, enif_free_env, enif_inspect_binary, enif_make_copy,
};
use rustler::{Binary, Term};

/// A binary of the BEAM kept alive outside of it. A large one is not copied:
/// the environment holds a reference to it.
struct Pinned {
    env: *mut ErlNifEnv,
    data: *const u8,
    len: usize,
}

// SAFETY: the environment is process-independent and belongs to this value
// alone; nothing is built in it after `pin`, and ERTS lets any thread free it.
unsafe impl Send for Pinned {}

// SAFETY: shared access only reads the bytes of an immutable binary.
unsafe impl Sync for Pinned {}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `pin` checked pointer and length; the binary is immutable and
        // lives as long as the environment, which lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by `pin` and freed once, here.
        unsafe { enif_free_env(self.env) }
    }
}

/// The bytes of a large binary, by reference. Also pins what it is a part of.
pub(crate) fn pin(term: Term<'_>, binary: &Binary<'_>) -> Bytes {
    // SAFETY: a fresh environment; the copy and its inspection stay in it, and
    // the inspected pointers are kept no longer than it.
    unsafe {
        let env = enif_alloc_env();
        let copy = enif_make_copy(env, term.as_c_arg());
        let mut inspected = std::mem::MaybeUninit::<ErlNifBinary>::uninit();
        if enif_inspect_binary(env, copy, inspected.as_mut_ptr()) == 0 {
            enif_free_env(env);
            return Bytes::copy_from_slice(binary.as_slice());
        }
        let inspected = inspected.assume_init();
        Bytes::from_owner(Pinned {
            env,
            data: inspected.data,
            len: inspected.size,
        })
    }
}

unsafe extern "C" {
    fn atexit(handler: extern "C" fn()) -> c_int;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

/// `RTLD_DEFAULT`: all of the process. glibc and musl; macOS has another value.
#[cfg(not(target_os = "macos"))]
const EVERYWHERE: *mut c_void = std::ptr::null_mut();
#[cfg(target_os = "macos")]
const EVERYWHERE: *mut c_void = -2isize as *mut c_void;

/// `ERL_NIF_OPT_ON_HALT` of erl_nif.h.
const ON_HALT: c_int = 2;

type SetOption = unsafe extern "C" fn(*mut ErlNifEnv, c_int, ...) -> c_int;

/// Has `goodbye` called when the emulator halts: by `enif_set_option` where
/// there is one (OTP 26), and by `atexit`, which serves every flavour of halt
/// that runs exit handlers. `goodbye` must bear being called twice.
pub(crate) fn at_halt(env: rustler::Env<'_>, goodbye: fn()) {
    // The handlers take no argument.
    GOODBYE.get_or_init(|| goodbye);
    // SAFETY: the handler does not unwind, and the library is never unmapped
    // (build.rs links it with nodelete).
    unsafe { atexit(run_goodbye) };
    // SAFETY: the symbol, where it exists, is the variadic function of OTP 26
    // and later; on_halt may be set in a load callback, whose environment this is.
    unsafe {
        let symbol = dlsym(EVERYWHERE, c"enif_set_option".as_ptr());
        if !symbol.is_null() {
            let set_option: SetOption = std::mem::transmute(symbol);
            set_option(
                env.as_c_arg(),
                ON_HALT,
                on_halt as extern "C" fn(*mut c_void),
            );
        }
    }
}

static GOODBYE: std::sync::OnceLock<fn()> = std::sync::OnceLock::new();

extern "C" fn on_halt(_private: *mut c_void) {
    run_goodbye();
}

extern "C" fn run_goodbye() {
    if let Some(goodbye) = GOODBYE.get() {
        // A panic must not cross into C; at exit nobody could act on it.
        let _ = std::panic::catch_unwind(goodbye);
    }
}

/// The kind of this thread as `enif_thread_type` counts: 0 is none of ERTS.
pub(crate) fn thread_type() -> c_int {
    // SAFETY: the function has no preconditions.
    unsafe { rustler::sys::enif_thread_type() }
}
