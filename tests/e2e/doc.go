// Package e2e shows that the programs work together: the agent brings every line of
// growing and rotating files to a server, once, in order and byte for byte, over
// crashes of both, and every door of the server gives them.
package e2e
