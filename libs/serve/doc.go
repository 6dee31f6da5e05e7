// Package serve is the frame of a Weir process: modules that start and stop in the right order,
// and the doors through which requests come in.
//
// A process is put together like this:
//
//	srv, err := serve.New(cfg, serve.Options{Telemetry: tel, Errors: table})  // opens nothing
//	mods := serve.NewModules(log)
//	mods.Add(serve.Module{Name: "ingester", DependsOn: []string{"store"}, Init: func() (serve.Service, error) {
//		ing, err := ingester.New(...)
//		ingestv1.RegisterIngestServiceServer(srv.Internal(), ing)
//		return ing.Service(), err
//	}})
//	err = mods.Init(targets...)     // builds and registers
//	err = serve.Run(ctx, srv, mods) // listens, starts, waits, drains, stops
//
// There are three doors. [DoorHTTP] (3100) is one net/http server for HTTP/1.1, HTTP/2 and
// unencrypted HTTP/2, on which requests of content type application/grpc go to gRPC and the rest to
// the mux. [DoorGRPC] (9095) is gRPC's own transport. [DoorMemory] is reached by [Server.Conn]
// only: the services of one process meet there over their real stubs. All have the same chain of
// interceptors, so that there is one code path to test.
package serve
