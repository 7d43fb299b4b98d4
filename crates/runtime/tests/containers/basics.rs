//! What every container has: its own everything, its output, its exit code.

use tare_model::Exit;

use crate::setup::Setup;

crate::tests![output_and_exit_code_arrive];

fn output_and_exit_code_arrive() {
    let said = Setup::new(&["then", "echo", "hello", ",", "exit", "7"]).run().unwrap();
    assert_eq!((said.exit, said.out.as_str()), (Exit::Code(7), "hello"));
}
