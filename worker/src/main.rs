//! The `worker` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the guard is small, has no runtime and must work when the worker does not.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "guard")
    {
        return worker::guard::guard_main();
    }
    worker::cli::main()
}
