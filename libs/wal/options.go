package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options configures a log. The zero value is ready for use; a zero field means its default.
type Options struct {
	// SyncInterval trades durability for speed: 0 syncs before every acknowledgement; above 0 an
	// append is acknowledged once it is written, and a power cut (not a crash of the process) loses
	// up to this much time of acknowledged records.
	SyncInterval time.Duration

	SegmentBytes   int64 // a segment is closed when the next record would take it beyond this; default 64 MiB
	MaxRecordBytes int   // largest payload; default and most the format allows for: 64 MiB, 1 GiB
	QueueBytes     int64 // payloads waiting to be written, in all; default 64 MiB
	MaxBatchBytes  int64 // written with one fdatasync; default 8 MiB

	// Preallocate reserves each segment's blocks when it is started, so that a disk filled by
	// others stops the log between segments only.
	Preallocate bool

	// The log writes nothing while more than MaxUsedPercent of the file system is used and fewer
	// than AmpleBytes are free, or while fewer than MinFreeBytes are. Defaults 95 and 64 MiB;
	// negative switches a check off.
	MaxUsedPercent float64
	MinFreeBytes   int64

	// ReserveBytes is the size of the file `reserve`, whose only use is to be removed when the disk
	// is full, so that the owner can start and write out what frees more. Default 64 MiB, negative
	// means none.
	ReserveBytes int64

	FS         FS                    // default OS{}
	Rand       io.Reader             // for incarnation ids and salts; default crypto/rand
	Logger     *slog.Logger          // nil discards
	Registerer prometheus.Registerer // nil counts without publishing
}

const mebibyte = 1 << 20

// AmpleBytes of free space are enough, whatever part of a large disk they are.
const AmpleBytes = 10 << 30

// MustStayFree returns how many bytes of a file system of that size the log leaves free.
func (o Options) MustStayFree(total uint64) uint64 {
	o = o.withDefaults()
	var free float64
	if o.MaxUsedPercent > 0 {
		free = min(AmpleBytes, max(0, 1-o.MaxUsedPercent/100)*float64(total))
	}
	return max(uint64(free), uint64(max(0, o.MinFreeBytes)))
}

func (o Options) withDefaults() Options {
	setDefault(&o.SegmentBytes, 64*mebibyte)
	setDefault(&o.MaxRecordBytes, 64*mebibyte)
	setDefault(&o.QueueBytes, 64*mebibyte)
	setDefault(&o.MaxBatchBytes, 8*mebibyte)
	setDefault(&o.MaxUsedPercent, 95)
	setDefault(&o.MinFreeBytes, 64*mebibyte)
	setDefault(&o.ReserveBytes, 64*mebibyte)
	if o.FS == nil {
		o.FS = OS{}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T int | int64 | float64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Validate returns all problems at once. Fields left at zero are fine.
func (o Options) Validate() error {
	var errs []error
	positive := func(name string, v int64) {
		if v < 0 {
			errs = append(errs, fmt.Errorf("wal: %s is %d, must be positive", name, v))
		}
	}
	positive("SyncInterval", int64(o.SyncInterval))
	positive("SegmentBytes", o.SegmentBytes)
	positive("MaxRecordBytes", int64(o.MaxRecordBytes))
	positive("QueueBytes", o.QueueBytes)
	positive("MaxBatchBytes", o.MaxBatchBytes)
	if o.MaxRecordBytes > maxPayload {
		errs = append(errs, fmt.Errorf("wal: MaxRecordBytes is %d, at most %d is possible", o.MaxRecordBytes, maxPayload))
	}
	return errors.Join(errs...)
}
