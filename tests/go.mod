module github.com/weir-logs/weir/tests

go 1.26.0

require (
	github.com/klauspost/compress v1.20.4
	github.com/weir-logs/weir/gen v0.0.0
	github.com/weir-logs/weir/libs v0.0.0
	github.com/weir-logs/weir/libs/client v0.0.0
	github.com/weir-logs/weir/services v0.0.0
	github.com/weir-logs/weir/services/agent v0.0.0
	golang.org/x/net v0.62.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.13-0.20261016172727-e9ee2a76ab8e
)

require (
	go.uber.org/goleak v1.3.0 // indirect
	golang.org/x/sys v0.50.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b // indirect
)

replace github.com/weir-logs/weir/gen => ../gen

replace github.com/weir-logs/weir/libs => ../libs

replace github.com/weir-logs/weir/libs/client => ../libs/client

replace github.com/weir-logs/weir/services => ../services

replace github.com/weir-logs/weir/services/agent => ../services/agent
