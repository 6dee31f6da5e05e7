// Package clients runs the example clients of other languages against a server.
// They need nothing of Weir but its protos.
package clients
