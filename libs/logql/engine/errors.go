package engine

import (
	"errors"
	"fmt"

	"github.com/weir-logs/weir/libs/logql/pipeline"
	"github.com/weir-logs/weir/libs/logql/syntax"
	"github.com/weir-logs/weir/libs/model"
)

// Kinds of errors, for errors.Is. The errors of this package have a text that is
// meant for users and does not repeat their kind. The errors of sources are
// passed on as they are.
var (
	// ErrUser is a query that cannot be answered because of what it says.
	ErrUser = errors.New("bad query")
	// ErrUnsupported is a part of the language that is not executed yet.
	ErrUnsupported = errors.New("not supported yet")
	// ErrLimit is a query beyond a limit.
	ErrLimit = errors.New("query limit exceeded")
	// ErrMemory is an ErrLimit: a query that would hold more memory than it may.
	ErrMemory = fmt.Errorf("%w: memory", ErrLimit)
	// ErrPipeline is a sample whose line could not be processed.
	ErrPipeline = errors.New("pipeline error")
	// ErrIncomplete is data that the answer needs and no source can give.
	ErrIncomplete = errors.New("data unavailable")
)

// queryError is an error of a kind whose text is all the user sees.
type queryError struct {
	kind error
	text string
}

func (e *queryError) Error() string { return e.text }
func (e *queryError) Unwrap() error { return e.kind }

// Errorf makes an error of a kind.
func Errorf(kind error, format string, args ...any) error {
	return &queryError{kind, fmt.Sprintf(format, args...)}
}

func errSeries(limit int) error {
	return Errorf(ErrLimit, "maximum number of series (%d) reached for a single query; consider reducing query cardinality by adding more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), count() or topk()", limit)
}

// errPipeline is about a sample with all its labels.
func errPipeline(labels model.Labels) error {
	e := pipeline.PipelineError{Kind: labels.Get(errorLabel), Series: labels}
	return Errorf(ErrPipeline, "%s", e.Error())
}

const (
	errorLabel        = "__error__"
	errorDetailsLabel = "__error_details__"
)

// IsQueryError reports whether an error is the query's fault, so that another
// copy of the data would give it too.
func IsQueryError(err error) bool {
	if _, ok := errors.AsType[*syntax.ParseError](err); ok {
		return true
	}
	return errors.Is(err, ErrUser) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrLimit) || errors.Is(err, ErrPipeline)
}
