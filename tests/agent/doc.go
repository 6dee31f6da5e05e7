// Package agent checks the agent as a process against a server as a process: every
// line that was written is there once and in order, whatever is killed, rotated,
// full or away meanwhile. It has no code but its tests.
//
// WEIR_AGENT_KILLS is how often the agent is killed (10), WEIR_AGENT_AWAY how long
// the server is away (5s).
package agent
