package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ClientOptions say how a Client uses a bucket. The zero value of a field is its default.
type ClientOptions struct {
	Attempts   int           // of an operation that fails for a passing reason; 4
	Timeout    time.Duration // of an attempt; 30s
	MinRate    int64         // bytes a second that an attempt's timeout is longer by; 1 MiB
	MinBackoff time.Duration // before the second attempt, doubled before each further one; 200ms
	MaxBackoff time.Duration // 5s
	Requests   int           // operations at a time, those of Uploads apart; 64
	Uploads    int           // of Put and PutNew at a time; 4
	// Jitter returns a factor from 0 to 1 that a pause is shortened by half of; nil: random.
	Jitter func() float64
	Log    *slog.Logger // nil: none
	Reg    prometheus.Registerer
}

// Client is a Bucket that tries again, waits no longer than it must, keeps few requests under way and
// counts what it does. An error that is none of the others of this package is ErrUnavailable; more
// callers than requests are allowed wait for each other until their contexts end.
type Client struct {
	bucket   Bucket
	o        ClientOptions
	log      *slog.Logger
	metrics  *metrics
	requests chan struct{}
	uploads  chan struct{}
	away     away
}

var _ Bucket = (*Client)(nil)

// NewClient returns a client of b. If b is an io.Closer, Close closes it.
func NewClient(b Bucket, o ClientOptions) *Client {
	set(&o.Attempts, 4)
	set(&o.Timeout, 30*time.Second)
	set(&o.MinRate, 1<<20)
	set(&o.MinBackoff, 200*time.Millisecond)
	set(&o.MaxBackoff, 5*time.Second)
	set(&o.Requests, 64)
	set(&o.Uploads, 4)
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{
		bucket: b, o: o, log: o.Log, metrics: newMetrics(o.Reg),
		requests: make(chan struct{}, o.Requests), uploads: make(chan struct{}, o.Uploads),
	}
}

func set[T comparable](field *T, def T) {
	var zero T
	if *field == zero {
		*field = def
	}
}

// Close closes the bucket. No operation may run or follow.
func (c *Client) Close() error {
	if closer, ok := c.bucket.(io.Closer); ok {
		return closer.Close()
	}
	return nil
}

// final reports whether trying again cannot help.
func final(err error) bool {
	if _, ok := errors.AsType[yieldError](err); ok {
		return true
	}
	for _, e := range []error{ErrNotFound, ErrExists, ErrRange, ErrInvalidKey, ErrDenied, ErrDamaged} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// timeout is that of an attempt that moves size bytes.
func (c *Client) timeout(size int64) time.Duration {
	return c.o.Timeout + time.Duration(size/c.o.MinRate)*time.Second
}

// do runs an operation until it succeeds, fails for good or was tried often enough. attempt counts
// from 0. A timeout of 0 is none.
func (c *Client) do(ctx context.Context, op, key string, timeout time.Duration, slots chan struct{}, run func(ctx context.Context, attempt int) error) error {
	c.metrics.operations.WithLabelValues(op).Inc()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	c.metrics.inFlight.WithLabelValues(op).Inc()
	defer c.metrics.inFlight.WithLabelValues(op).Dec()
	pause := c.o.MinBackoff
	for attempt := 0; ; attempt++ {
		start := time.Now()
		err := try(ctx, timeout, attempt, run)
		c.metrics.duration.WithLabelValues(op).Observe(time.Since(start).Seconds())
		switch {
		case err == nil:
			c.away.answered(op)
			return nil
		case ctx.Err() != nil: // the caller's end, not the attempt's
			return fmt.Errorf("%s object %q: %w", op, key, ctx.Err())
		case final(err):
			if errors.Is(err, ErrDenied) {
				c.metrics.failures.WithLabelValues(op).Inc()
				c.away.failed(op, start, time.Now(), true)
			} else if !errors.Is(err, ErrInvalidKey) && !errors.Is(err, ErrRange) { // which need no store
				c.away.answered(op)
			}
			return err
		}
		last := attempt+1 >= c.o.Attempts
		c.away.failed(op, start, time.Now(), last)
		if last {
			c.metrics.failures.WithLabelValues(op).Inc()
			return fmt.Errorf("%w: %s object %q, %d attempts: %w", ErrUnavailable, op, key, attempt+1, err)
		}
		c.metrics.retries.WithLabelValues(op).Inc()
		c.log.Debug("object store operation is tried again", "operation", op, "key", key, "attempt", attempt+1, "err", err)
		timer := time.NewTimer(pause - time.Duration(c.o.Jitter()*float64(pause)/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s object %q: %w", op, key, ctx.Err())
		}
		pause = min(2*pause, c.o.MaxBackoff)
	}
}

func try(ctx context.Context, timeout time.Duration, attempt int, run func(context.Context, int) error) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return run(ctx, attempt)
}

// Put implements Bucket.
func (c *Client) Put(ctx context.Context, key string, body io.ReaderAt, size int64) error {
	err := c.do(ctx, "put", key, c.timeout(size), c.uploads, func(ctx context.Context, _ int) error {
		return c.bucket.Put(ctx, key, body, size)
	})
	if err == nil {
		c.metrics.written.Add(float64(size))
	}
	return err
}

// PutNew implements Bucket. An attempt that was reported failed may have stored the object all the
// same: when a later one finds it there with the same body, it is taken for the caller's. Callers that
// must know which of them was the first put something of their own into the body.
func (c *Client) PutNew(ctx context.Context, key string, body []byte) error {
	size := int64(len(body))
	err := c.do(ctx, "put_new", key, c.timeout(size), c.uploads, func(ctx context.Context, attempt int) error {
		err := c.bucket.PutNew(ctx, key, body)
		if attempt == 0 || !errors.Is(err, ErrExists) {
			return err
		}
		have, readErr := ReadAll(ctx, c.bucket, key, size)
		switch {
		case readErr == nil && bytes.Equal(have, body):
			return nil
		case readErr == nil || final(readErr):
			return err
		}
		return readErr
	})
	if err == nil {
		c.metrics.written.Add(float64(size))
	}
	return err
}

// Get implements Bucket.
func (c *Client) Get(ctx context.Context, key string, off int64, n int) ([]byte, error) {
	var out []byte
	err := c.do(ctx, "get", key, c.timeout(int64(n)), c.requests, func(ctx context.Context, _ int) (err error) {
		out, err = c.bucket.Get(ctx, key, off, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.metrics.read.Add(float64(n))
	return out, nil
}

// Stat implements Bucket.
func (c *Client) Stat(ctx context.Context, key string) (Object, error) {
	var out Object
	err := c.do(ctx, "stat", key, c.timeout(0), c.requests, func(ctx context.Context, _ int) (err error) {
		out, err = c.bucket.Stat(ctx, key)
		return err
	})
	return out, err
}

// yieldError is an error of List's caller, for whom nothing is tried again.
type yieldError struct{ error }

var errStalled = errors.New("the listing stalled")

// List implements Bucket. A listing that broke off is begun anew, and what was yielded is passed over.
// It may take as long as it needs; the timeout is for the time between two objects.
func (c *Client) List(ctx context.Context, prefix string, yield func(Object) error) error {
	last, some := "", false
	err := c.do(ctx, "list", prefix, 0, c.requests, func(ctx context.Context, _ int) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		watch := time.AfterFunc(c.o.Timeout, func() { cancel(errStalled) })
		defer watch.Stop()
		err := c.bucket.List(ctx, prefix, func(o Object) error {
			watch.Stop() // yield takes the time that it wants
			defer watch.Reset(c.o.Timeout)
			if some && o.Key <= last {
				return nil
			}
			last, some = o.Key, true
			if err := yield(o); err != nil {
				return yieldError{err}
			}
			return nil
		})
		if err != nil && errors.Is(context.Cause(ctx), errStalled) {
			return errStalled
		}
		return err
	})
	if y, ok := errors.AsType[yieldError](err); ok {
		return y.error
	}
	return err
}

// Delete implements Bucket.
func (c *Client) Delete(ctx context.Context, key string) error {
	return c.do(ctx, "delete", key, c.timeout(0), c.requests, func(ctx context.Context, _ int) error {
		return c.bucket.Delete(ctx, key)
	})
}
