// Package gen holds what is generated from the protos. Its Go code is in its folders.
package gen

import _ "embed" // for OpenAPI

// OpenAPI is the description of the REST API, OpenAPI 2.0 as JSON.
//
//go:embed openapi/weir.swagger.json
var OpenAPI []byte
