//! `evergate demo --script`: the demo's own steps without a browser.

use super::support::gateway::evergate;
use super::support::parts::{Folder, Program};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_passes_its_own_script_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let mut program = Program::start(evergate().args(["demo", "--script"]).current_dir(&folder.0));

    let status = program.ended().await;

    assert_eq!(status.code(), Some(0), "{}", program.output());
    let left = std::fs::read_dir(&folder.0).expect("our folder").count();
    assert_eq!(left, 0, "{}", program.output());
}
