//! The crate as its users see it: files in, values or errors out.

#[cfg(test)]
mod defaults;
#[cfg(test)]
mod edit;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod lookup;
#[cfg(test)]
mod support;
#[cfg(test)]
mod watch;
