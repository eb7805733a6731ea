//! Real pods, real NGINX, real traffic, a real kubelet. One program, since each more would be linked for nothing;
//! which scenarios may run at the same time is theirs to say (`Turn`).

mod cohorts;
mod counting;
mod drain;
mod groups;
mod guards;
mod holes;
mod input;
mod install;
mod kills;
mod limits;
mod matrix;
mod operator;
mod people;
mod plans;
mod rebuilt;
mod restored;
mod rollback;
mod scale;
mod services;
mod stages;
mod structure;
mod tls;
mod tokens;
mod weights;
