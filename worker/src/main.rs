//! The `worker` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "guard")
    {
        return worker::guard::guard_main();
    }
    ExitCode::FAILURE
}
