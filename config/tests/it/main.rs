//! Tests of the public functions: files in, values or errors out.

#[cfg(test)]
mod defaults;
#[cfg(test)]
mod domains_file;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod import;
#[cfg(test)]
mod loaded;
#[cfg(test)]
mod lookup;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod providers;
#[cfg(test)]
mod support;
#[cfg(test)]
mod watch;
