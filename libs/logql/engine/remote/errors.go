package remote

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/weir-logs/weir/libs/logql/engine"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/rpcerr"
)

// PipelineError is the reason of engine.ErrPipeline.
const PipelineError rpcerr.Reason = "PIPELINE_ERROR"

// Errors is how the engine's errors cross the wire. See ToError for those of
// package syntax, which are no sentinels.
var Errors = rpcerr.Table{
	{Err: engine.ErrPipeline, Reason: PipelineError, Code: codes.InvalidArgument, Public: true},
	{Err: engine.ErrLimit, Reason: rpcerr.LimitExceeded, Public: true},
	{Err: engine.ErrUnsupported, Reason: rpcerr.Unsupported, Public: true},
	{Err: engine.ErrIncomplete, Reason: rpcerr.Incomplete, Public: true},
	{Err: engine.ErrUser, Reason: rpcerr.InvalidArgument, Public: true},
}

// ToError is Errors.ToError, for parse errors too.
func ToError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*syntax.ParseError](err); ok {
		return rpcerr.New(rpcerr.ParseError, "%s", err.Error())
	}
	// Why a source failed is not why the query does, unless the query was ended.
	if errors.Is(err, engine.ErrIncomplete) && !rpcerr.Is(err, rpcerr.Canceled) && !rpcerr.Is(err, rpcerr.Timeout) {
		return rpcerr.Wrap(err, rpcerr.Incomplete, "%v", err).WithRetry(time.Second)
	}
	return Errors.ToError(err)
}

// fromError is the reverse of ToError.
func fromError(err error) error {
	err = Errors.FromStatus(err)
	if rpcerr.ReasonOf(err) == rpcerr.ParseError {
		return engine.Errorf(engine.ErrUser, "%s", err.Error())
	}
	return err
}
