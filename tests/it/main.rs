//! The one test binary: stories over a whole fake world, one file a behaviour, and the two files
//! beside this folder that check the core's table and the house rules.

mod support;

// The order in which a reader meets them: logging in, passing, renewing, failing, and the rest.
mod login;
mod pass;
mod issuers;
mod expired;
mod window;
mod endpoints;
mod inject;
mod bounce;
mod failures;
mod tables;
mod carriers;
mod rotation;
mod gateways;
mod revocation;
mod logout;
mod carriers_held;
mod backchannel;
mod bearer;
mod limits;
mod answers;
mod identity;
mod cookies;
mod paths;
mod streams;
mod streams_end;
mod connections;
mod keys;
mod config;
mod docs;
mod admin;
mod refresh_metrics;
mod process;
mod cli;
mod attacks;

// Real programs.
mod oidc;
mod keycloak;
mod radicale;
mod demo;
mod browser;
mod pages;
mod contract;
mod stores;
mod soak;

#[path = "../decisions.rs"]
mod decisions;
#[path = "../house.rs"]
mod house;
