// Package storage shows what the storage engine of whole processes promises: memory
// within its budget whatever the shape of the load, a quick start over many lines,
// and faults of the object store and of the local disk that cost nothing which was
// acknowledged.
//
// Variables of the environment, beside the harness' own:
//
//	WEIR_MEMORY_BYTES  how many bytes of lines the memory test pushes in each shape
//	WEIR_LINES         how many lines the test of starting stores
//	WEIR_FLIPS         how many bits are flipped in local containers and in stored blocks
package storage
