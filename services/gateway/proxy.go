package gateway

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	tailv1 "github.com/weir-logs/weir/gen/go/weir/tail/v1"
)

// queryProxy passes queries on to a querier.
type queryProxy struct {
	queryv1.UnsafeQueryServiceServer
	to queryv1.QueryServiceClient
}

var _ queryv1.QueryServiceServer = queryProxy{}

// Query implements queryv1.QueryServiceServer.
func (p queryProxy) Query(ctx context.Context, r *queryv1.QueryRequest) (*queryv1.QueryResponse, error) {
	return p.to.Query(ctx, r)
}

// QueryRange implements queryv1.QueryServiceServer.
func (p queryProxy) QueryRange(ctx context.Context, r *queryv1.QueryRangeRequest) (*queryv1.QueryRangeResponse, error) {
	return p.to.QueryRange(ctx, r)
}

// QueryStream implements queryv1.QueryServiceServer.
func (p queryProxy) QueryStream(r *queryv1.QueryStreamRequest, out grpc.ServerStreamingServer[queryv1.QueryStreamResponse]) error {
	in, err := p.to.QueryStream(out.Context(), r)
	if err != nil {
		return err
	}
	return relay(in, out)
}

// Labels implements queryv1.QueryServiceServer.
func (p queryProxy) Labels(ctx context.Context, r *queryv1.LabelsRequest) (*queryv1.LabelsResponse, error) {
	return p.to.Labels(ctx, r)
}

// LabelValues implements queryv1.QueryServiceServer.
func (p queryProxy) LabelValues(ctx context.Context, r *queryv1.LabelValuesRequest) (*queryv1.LabelValuesResponse, error) {
	return p.to.LabelValues(ctx, r)
}

// Series implements queryv1.QueryServiceServer.
func (p queryProxy) Series(ctx context.Context, r *queryv1.SeriesRequest) (*queryv1.SeriesResponse, error) {
	return p.to.Series(ctx, r)
}

// Patterns implements queryv1.QueryServiceServer.
func (p queryProxy) Patterns(ctx context.Context, r *queryv1.PatternsRequest) (*queryv1.PatternsResponse, error) {
	return p.to.Patterns(ctx, r)
}

// Stats implements queryv1.QueryServiceServer.
func (p queryProxy) Stats(ctx context.Context, r *queryv1.StatsRequest) (*queryv1.StatsResponse, error) {
	return p.to.Stats(ctx, r)
}

// Volume implements queryv1.QueryServiceServer.
func (p queryProxy) Volume(ctx context.Context, r *queryv1.VolumeRequest) (*queryv1.VolumeResponse, error) {
	return p.to.Volume(ctx, r)
}

// VolumeRange implements queryv1.QueryServiceServer.
func (p queryProxy) VolumeRange(ctx context.Context, r *queryv1.VolumeRangeRequest) (*queryv1.VolumeRangeResponse, error) {
	return p.to.VolumeRange(ctx, r)
}

// DetectedLabels implements queryv1.QueryServiceServer.
func (p queryProxy) DetectedLabels(ctx context.Context, r *queryv1.DetectedLabelsRequest) (*queryv1.DetectedLabelsResponse, error) {
	return p.to.DetectedLabels(ctx, r)
}

// DetectedFields implements queryv1.QueryServiceServer.
func (p queryProxy) DetectedFields(ctx context.Context, r *queryv1.DetectedFieldsRequest) (*queryv1.DetectedFieldsResponse, error) {
	return p.to.DetectedFields(ctx, r)
}

// DetectedFieldValues implements queryv1.QueryServiceServer.
func (p queryProxy) DetectedFieldValues(ctx context.Context, r *queryv1.DetectedFieldValuesRequest) (*queryv1.DetectedFieldValuesResponse, error) {
	return p.to.DetectedFieldValues(ctx, r)
}

// FormatQuery implements queryv1.QueryServiceServer.
func (p queryProxy) FormatQuery(ctx context.Context, r *queryv1.FormatQueryRequest) (*queryv1.FormatQueryResponse, error) {
	return p.to.FormatQuery(ctx, r)
}

// Explain implements queryv1.QueryServiceServer.
func (p queryProxy) Explain(ctx context.Context, r *queryv1.ExplainRequest) (*queryv1.ExplainResponse, error) {
	return p.to.Explain(ctx, r)
}

// ListQueries implements queryv1.QueryServiceServer.
func (p queryProxy) ListQueries(ctx context.Context, r *queryv1.ListQueriesRequest) (*queryv1.ListQueriesResponse, error) {
	return p.to.ListQueries(ctx, r)
}

// CancelQuery implements queryv1.QueryServiceServer.
func (p queryProxy) CancelQuery(ctx context.Context, r *queryv1.CancelQueryRequest) (*queryv1.CancelQueryResponse, error) {
	return p.to.CancelQuery(ctx, r)
}

// tailProxy passes tails on to a querier.
type tailProxy struct {
	tailv1.UnsafeTailServiceServer
	to tailv1.TailServiceClient
}

var _ tailv1.TailServiceServer = tailProxy{}

// Tail implements tailv1.TailServiceServer.
func (p tailProxy) Tail(r *tailv1.TailRequest, out grpc.ServerStreamingServer[tailv1.TailResponse]) error {
	in, err := p.to.Tail(out.Context(), r)
	if err != nil {
		return err
	}
	return relay(in, out)
}

// storageProxy passes calls on to a compactor.
type storageProxy struct {
	storagev1.UnsafeStorageServiceServer
	to storagev1.StorageServiceClient
}

var _ storagev1.StorageServiceServer = storageProxy{}

// CreateDelete implements storagev1.StorageServiceServer.
func (p storageProxy) CreateDelete(ctx context.Context, r *storagev1.CreateDeleteRequest) (*storagev1.CreateDeleteResponse, error) {
	return p.to.CreateDelete(ctx, r)
}

// ListDeletes implements storagev1.StorageServiceServer.
func (p storageProxy) ListDeletes(ctx context.Context, r *storagev1.ListDeletesRequest) (*storagev1.ListDeletesResponse, error) {
	return p.to.ListDeletes(ctx, r)
}

// CancelDelete implements storagev1.StorageServiceServer.
func (p storageProxy) CancelDelete(ctx context.Context, r *storagev1.CancelDeleteRequest) (*storagev1.CancelDeleteResponse, error) {
	return p.to.CancelDelete(ctx, r)
}

// RetentionDryRun implements storagev1.StorageServiceServer.
func (p storageProxy) RetentionDryRun(ctx context.Context, r *storagev1.RetentionDryRunRequest) (*storagev1.RetentionDryRunResponse, error) {
	return p.to.RetentionDryRun(ctx, r)
}

// ListBlocks implements storagev1.StorageServiceServer.
func (p storageProxy) ListBlocks(ctx context.Context, r *storagev1.ListBlocksRequest) (*storagev1.ListBlocksResponse, error) {
	return p.to.ListBlocks(ctx, r)
}

// relay passes messages on until the stream ends. Nothing is buffered: a slow client
// slows the querier, which has the bounds.
func relay[T any](in grpc.ServerStreamingClient[T], out grpc.ServerStreamingServer[T]) error {
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := out.Send(m); err != nil {
			return err
		}
	}
}
