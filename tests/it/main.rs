//! All tests that need more than one crate, in one binary.
//!
//! | file | what it shows |
//! |---|---|
//! | `tidy` | the rules of structure hold |
//! | `example` | `examples/config.toml` names every key, with its default |
//! | `generated` | the documents that the program writes of itself are fresh |
//! | `readme` | what the README tells a newcomer to type works |
//! | `config` | the example is used; every mistake in a configuration is shown with its place |
//! | `roads` | a container's whole life on both engines, here and on a host |
//! | `disk` | what a container writes is bounded where an engine can do that |
//! | `desktop` | a desktop in a VNC client and in a browser, `browser` |
//! | `runtimes` | every runtime keeps every promise, in this process and in a child |
//! | `chat` | the army's chat byte for byte, scripts, and what a terminal shows |
//! | `idle` | containers that nobody uses are stopped, and those that are used are not |
//! | `known` | the first node at an address is remembered, another is refused |
//! | `isolation` | members' containers reach neither one another nor the host, on both engines |
//! | `lan` | a host, a member and a stranger on one network, and what goes over the wire |
//! | `leases` | leases are made longer, and end |
//! | `members` | nodes join by a ticket and are cut off; keys change; a server is killed while a ticket is used |
//! | `messages` | what a user reads when something is wrong, word for word |
//! | `peers` | servers that exchange their tables, the best of them, and peers that are not as they should be |
//! | `plugins` | bad and misbehaving plugins |
//! | `stranger` | a plugin from a workspace of its own, from `gx plugin new` to `gx create` |
//! | `chat_waits` | a command of the chat that asks too often waits, and asks again |
//! | `compose` | the chat in containers: the example is built, talks, is killed and leaves nothing |
//! | `chat_doctor` | a chat is checked, and every fault comes with its fix |
//! | `chat_faults` | what the chat has acknowledged survives kill -9; a thousand connections miss nothing |
//! | `faults` | engines that go away, kill -9, Ctrl-C, slow readers |
//! | `gpus` | GPUs in the specs and in containers, on both engines, with imaginary hardware |
//! | `imaginary` | that hardware: a stub of NVML, and engines that hand its GPUs over |
//! | `ports` | ports of containers are published as it is asked for, or refused |
//! | `measure` | hosts are measured by `gx peers measure`, or say why not |
//! | `speedtest` | a host is measured through the loaded plugin |
//! | `ssh` | containers are entered by OpenSSH's own client, and nobody else is told the secrets |
//! | `clients` | rsync, sftp, Ansible and forwarded ports; crowds and killed sessions keep nobody out |
//! | `editors` | the steps of an editor that works over SSH: a script, a server, a SOCKS proxy |
//! | `read_only` | containers are made, and entered, where nothing can be written |
//! | `schemathesis` | an API fuzzer led by our own document finds no fault |
//! | `support`, `engine_proxy`, `private_docker` | how tests start programs, hosts and engines, and cut them off |

mod browser;
mod chat;
mod chat_doctor;
mod chat_faults;
mod chat_waits;
mod clients;
mod compose;
mod config;
mod dashboard;
mod desktop;
mod disk;
mod doctor;
mod editors;
mod engine_proxy;
mod example;
mod faults;
mod generated;
mod gpus;
mod idle;
mod imaginary;
mod isolation;
mod known;
mod lan;
mod leases;
mod limits;
mod measure;
mod members;
mod messages;
mod peers;
mod plugins;
mod ports;
mod private_docker;
mod read_only;
mod readme;
mod roads;
mod runtimes;
mod schemathesis;
mod speedtest;
mod ssh;
mod stranger;
mod support;
mod tidy;
