package compactor

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storagev1 "github.com/weir-logs/weir/gen/go/weir/storage/v1"
	"github.com/weir-logs/weir/libs/catalog"
	"github.com/weir-logs/weir/libs/catalog/tombstone"
	"github.com/weir-logs/weir/libs/compact"
	"github.com/weir-logs/weir/libs/logql/selection"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/objstore"
	"github.com/weir-logs/weir/libs/rpcerr"
	"github.com/weir-logs/weir/libs/tenant"
)

// maxRemovals is the most removals in an answer.
const maxRemovals = 1000

// failure brings an error into the terms of the API.
func failure(err error) error {
	var told *rpcerr.Error
	switch {
	case errors.As(err, &told):
		return err
	case errors.Is(err, objstore.ErrUnavailable), errors.Is(err, catalog.ErrStale):
		return rpcerr.Wrap(err, rpcerr.Unavailable, "the object store does not answer: %v", err).WithRetry(time.Second)
	case errors.Is(err, tombstone.ErrDamaged):
		return rpcerr.Wrap(err, rpcerr.DataLoss, "%v", err)
	}
	return err
}

// CreateDelete implements storagev1.StorageServiceServer.
func (s *Service) CreateDelete(ctx context.Context, r *storagev1.CreateDeleteRequest) (*storagev1.CreateDeleteResponse, error) {
	id, err := tenant.Require(ctx)
	if err != nil {
		return nil, err
	}
	if limit := s.deps.Limits.For(id).MaxQueryText; int64(len(r.GetQuery())) > int64(limit) {
		return nil, rpcerr.New(rpcerr.LimitExceeded, "the query has %d bytes, the limit is %s", len(r.GetQuery()), limit)
	}
	sel, err := selection.Parse(r.GetQuery())
	if err != nil {
		var parse *syntax.ParseError
		if errors.As(err, &parse) {
			return nil, rpcerr.Wrap(err, rpcerr.ParseError, "%v", err)
		}
		return nil, rpcerr.Wrap(err, rpcerr.InvalidArgument, "%v", err)
	}
	now := s.deps.Now()
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if t := r.GetStart(); t != nil {
		start = nanos(t)
	}
	if t := r.GetEnd(); t != nil {
		if t.AsTime().After(now) {
			return nil, rpcerr.New(rpcerr.InvalidArgument, "deletes in the future are not allowed: the range ends at %s", t.AsTime().Format(time.RFC3339))
		}
		// The moment of a delete is known to the millisecond.
		if end = nanos(t); end > now.UnixMilli()*1e6 {
			end = math.MaxInt64
		}
	}
	d, err := s.createDelete(ctx, id, sel.String(), start, end)
	if err != nil {
		return nil, failure(err)
	}
	s.log.Info("delete created", "tenant", id, "delete", d.ID, "query", d.Query)
	return &storagev1.CreateDeleteResponse{Delete: deleteMessage(d)}, nil
}

// nanos returns a time in nanoseconds, at the ends of what they can tell if it is
// beyond.
func nanos(t *timestamppb.Timestamp) int64 {
	const limit = math.MaxInt64 / int64(time.Second)
	switch {
	case t.GetSeconds() >= limit:
		return math.MaxInt64
	case t.GetSeconds() <= -limit:
		return math.MinInt64
	}
	return t.AsTime().UnixNano()
}

// ListDeletes implements storagev1.StorageServiceServer.
func (s *Service) ListDeletes(ctx context.Context, _ *storagev1.ListDeletesRequest) (*storagev1.ListDeletesResponse, error) {
	id, err := tenant.Require(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Tombstones.List(ctx, id)
	if err != nil {
		return nil, failure(err)
	}
	resp := &storagev1.ListDeletesResponse{Deletes: s.cancelled(list)}
	if len(resp.GetDeletes()) == len(list) {
		return resp, nil
	}
	if err := s.deps.Loader.RefreshTenant(ctx, id); err != nil {
		return nil, failure(err)
	}
	snap, err := s.snapshot(id)
	if err != nil {
		return nil, failure(err)
	}
	for _, st := range list {
		if st.Decision.State == tombstone.Cancelled {
			continue // below
		}
		m, err := s.deleteStatus(ctx, snap, st)
		if err != nil {
			return nil, failure(err)
		}
		resp.Deletes = append(resp.Deletes, m)
	}
	slices.SortFunc(resp.GetDeletes(), func(a, b *storagev1.Delete) int { return cmp.Compare(a.GetId(), b.GetId()) }) // by creation
	return resp, nil
}

// maxCancelled is the most cancelled deletes in a list.
const maxCancelled = 100

// cancelled returns those of the deletes, the oldest first, that were cancelled lately, the
// newest of them if they are many.
func (s *Service) cancelled(list []tombstone.Status) (out []*storagev1.Delete) {
	for _, st := range slices.Backward(list) {
		if st.Decision.State != tombstone.Cancelled || s.deps.Now().Sub(st.Decision.At) >= tombstone.KeepCancelled {
			continue
		}
		m := deleteMessage(st.Tombstone)
		m.State, m.Cancelled = storagev1.DeleteState_DELETE_STATE_CANCELLED, timestamppb.New(st.Decision.At)
		if out = append(out, m); len(out) == maxCancelled {
			break
		}
	}
	slices.Reverse(out)
	return out
}

// CancelDelete implements storagev1.StorageServiceServer.
func (s *Service) CancelDelete(ctx context.Context, r *storagev1.CancelDeleteRequest) (*storagev1.CancelDeleteResponse, error) {
	id, err := tenant.Require(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.cancelDelete(ctx, id, r.GetId()); err != nil {
		return nil, failure(err)
	}
	s.log.Info("delete cancelled", "tenant", id, "delete", r.GetId())
	return &storagev1.CancelDeleteResponse{}, nil
}

// ListBlocks implements storagev1.StorageServiceServer.
func (s *Service) ListBlocks(ctx context.Context, r *storagev1.ListBlocksRequest) (*storagev1.ListBlocksResponse, error) {
	id, err := tenant.Require(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.deps.Loader.RefreshTenant(ctx, id); err != nil {
		return nil, failure(err)
	}
	snap, err := s.snapshot(id)
	if err != nil {
		return nil, failure(err)
	}
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if t := r.GetStart(); t != nil {
		start = nanos(t)
	}
	if t := r.GetEnd(); t != nil {
		end = nanos(t)
	}
	resp := &storagev1.ListBlocksResponse{Taken: timestamppb.New(snap.Taken())}
	for _, b := range snap.Live(id, start, end) {
		resp.Blocks = append(resp.Blocks, blockMessage(b))
	}
	return resp, nil
}

func blockMessage(b catalog.Block) *storagev1.Block {
	m := &storagev1.Block{
		Id: string(b.ID), Level: uint32(b.Level), MinTime: timestamppb.New(time.Unix(0, b.MinTime)), MaxTime: timestamppb.New(time.Unix(0, b.MaxTime)),
		Bytes: uint64(b.Size), Entries: uint64(b.Rows), RawBytes: uint64(b.RawBytes), Deletes: applied(b.Tombstones),
	}
	if !b.Partition.IsZero() {
		m.Partition = timestamppb.New(b.Partition)
	}
	return m
}

// applied returns the ids of deletes among what was applied to a block.
func applied(tombstones []string) (ids []string) {
	for _, t := range tombstones {
		if t != compact.MarkOrdered && !compact.IsMark(t) {
			ids = append(ids, t)
		}
	}
	return ids
}
