// Package weirctl is the command line client of Weir: it queries, tails, pushes
// and generates logs, and looks after a server.
//
// Run takes all that a command can see of the world in an Env and returns the
// exit code, so that tests run what users run.
package weirctl
