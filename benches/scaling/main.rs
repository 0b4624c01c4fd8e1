//! Ten million sessions behind 200 gateways, on paper: docs/scaling.md is what this prints.
//!
//! `cargo run --example scaling` measures what a session and a token take of memory in the real code
//! ([`memory`]), and simulates when sessions are renewed ([`rates`]). No network, and the same figures
//! in each run, but for a few per cent of memory. Nothing here says how fast the gateway is.

mod memory;
mod rates;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // First, while the process is small: what is freed would be used again, and not be seen to grow.
    memory::print()?;
    rates::print();
    Ok(())
}
