// Package pipeline runs the stages of a job over its entries.
package pipeline

// Pipeline is a compiled list of stages.
type Pipeline struct{}
