package lokiapi

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	queryv1 "github.com/weir-logs/weir/gen/go/weir/query/v1"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString[T string | []byte](b []byte, s T) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			// Two line separators are legal in JSON and not in JavaScript.
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[from:i]...), `\ufffd`...)
				from = i + 1
			} else if r == '\u2028' || r == '\u2029' {
				b = append(append(b, s[from:i]...), `\u202`...)
				b = append(b, hexDigits[r&15])
				from = i + n
			}
			i += n
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}

// appendSeconds appends a time in seconds, to the millisecond.
func appendSeconds(b []byte, ns int64) []byte {
	ms := ns / 1e6
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if ms %= 1000; ms != 0 {
		b = append(b, '.', byte('0'+ms/100))
		if ms %= 100; ms != 0 {
			b = append(b, byte('0'+ms/10))
			if ms %= 10; ms != 0 {
				b = append(b, byte('0'+ms))
			}
		}
	}
	return b
}

// appendSample appends [seconds, "value"].
func appendSample(b []byte, s *queryv1.Sample) []byte {
	b = appendSeconds(append(b, '['), s.GetTimestampUnixNano())
	b = append(b, ',', '"')
	b = appendFloat(b, s.GetValue())
	return append(b, '"', ']')
}

func appendFloat(b []byte, v float64) []byte {
	if math.IsInf(v, 1) {
		return append(b, "+Inf"...)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

// member is a name and a value of an object.
type member struct{ name, value string }

// appendStringMap appends a map as a JSON object, ascending by name. It returns the memory
// that it used, too.
func appendStringMap(b []byte, m map[string]string, members []member) ([]byte, []member) {
	members = members[:0]
	for k, v := range m {
		members = append(members, member{k, v})
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
	b = append(b, '{')
	for i := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, members[i].name)
		b = append(b, ':')
		b = appendString(b, members[i].value)
	}
	return append(b, '}'), members
}

// appendStrings appends a JSON array of strings.
func appendStrings(b []byte, list []string) []byte {
	size := 2
	for _, s := range list {
		size += len(s) + 3
	}
	b = slices.Grow(b, size) // more only where something is escaped
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

// appendWarnings appends ,"warnings":[…] if there are any: no answer that lacks
// something is given without them, also where Loki's has no such member.
func appendWarnings(b []byte, warnings []string) []byte {
	if len(warnings) == 0 {
		return b
	}
	return appendStrings(append(b, `,"warnings":`...), warnings)
}

// appendList appends {"status":"success","data":[…]}; an empty list is left out.
func appendList(b []byte, warnings, list []string) []byte {
	b = appendWarnings(append(b, `{"status":"success"`...), warnings)
	if len(list) > 0 {
		b = append(b, `,"data":`...)
		b = appendStrings(b, list)
	}
	return append(b, '}')
}

// appendHead begins the envelope of a query's result, up to the result itself.
func appendHead(b []byte, warnings []string, resultType string, flags []string) []byte {
	b = appendWarnings(append(b, `{"status":"success"`...), warnings)
	b = append(b, `,"data":{"resultType":"`...)
	b = append(b, resultType...)
	b = append(b, '"')
	if len(flags) > 0 {
		b = append(b, `,"encodingFlags":`...)
		b = appendStrings(b, flags)
	}
	return append(b, `,"result":`...)
}

// appendTail ends the envelope.
func appendTail(b []byte, s *queryv1.Statistics) []byte {
	b = append(b, `,"stats":`...)
	b = appendStatistics(b, s)
	return append(b, '}', '}')
}

func appendVector(b []byte, v *queryv1.Vector) []byte {
	b = append(b, '[')
	var members []member
	for i, s := range v.GetSamples() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"metric":`...)
		b, members = appendStringMap(b, s.GetLabels(), members)
		b = append(b, `,"value":`...)
		b = appendSample(b, s.GetSample())
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendMatrix(b []byte, m *queryv1.Matrix) []byte {
	b = append(b, '[')
	var members []member
	for i, s := range m.GetSeries() {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"metric":`...)
		b, members = appendStringMap(b, s.GetLabels(), members)
		b = append(b, `,"values":[`...)
		for k, p := range s.GetSamples() {
			if k > 0 {
				b = append(b, ',')
			}
			b = appendSample(b, p)
		}
		b = append(b, ']', '}')
	}
	return append(b, ']')
}

// appendStatistics appends Loki's statistics. What has no counterpart is 0: clients
// expect the shape.
func appendStatistics(b []byte, s *queryv1.Statistics) []byte {
	seconds := func(d *durationpb.Duration) float64 { return d.AsDuration().Seconds() }
	perSecond := func(n uint64) uint64 {
		if t := seconds(s.GetExecutionTime()); t > 0 {
			return uint64(float64(n) / t)
		}
		return 0
	}
	number := func(name string, n uint64) {
		if c := b[len(b)-1]; c != '{' {
			b = append(b, ',')
		}
		b = appendString(b, name)
		b = append(b, ':')
		b = strconv.AppendUint(b, n, 10)
	}
	float := func(name string, f float64) {
		b = append(b, ',')
		b = appendString(b, name)
		b = append(b, ':')
		b = strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	store := func(full bool) {
		lines, bytes, meta, post := s.GetEntriesProcessed(), s.GetBytesProcessed(), s.GetStructuredMetadataBytesProcessed(), s.GetEntriesPostFilter()
		if !full {
			lines, bytes, meta, post = 0, 0, 0, 0
		}
		b = append(b, `"store":{`...)
		number("totalChunksRef", 0)
		number("totalChunksDownloaded", 0)
		number("chunksDownloadTime", 0)
		b = append(b, `,"chunk":{`...)
		number("headChunkBytes", 0)
		number("headChunkLines", 0)
		number("decompressedBytes", bytes)
		number("decompressedLines", lines)
		number("compressedBytes", 0)
		number("totalDuplicates", 0)
		number("postFilterLines", post)
		number("headChunkStructuredMetadataBytes", 0)
		number("decompressedStructuredMetadataBytes", meta)
		b = append(b, "}}"...)
	}
	b = append(b, `{"summary":{`...)
	number("bytesProcessedPerSecond", perSecond(s.GetBytesProcessed()))
	number("linesProcessedPerSecond", perSecond(s.GetEntriesProcessed()))
	number("totalBytesProcessed", s.GetBytesProcessed())
	number("totalLinesProcessed", s.GetEntriesProcessed())
	float("execTime", seconds(s.GetExecutionTime()))
	float("queueTime", seconds(s.GetQueueTime()))
	number("subqueries", 0)
	number("totalEntriesReturned", s.GetEntriesReturned())
	number("splits", 0)
	number("shards", 0)
	number("totalPostFilterLines", s.GetEntriesPostFilter())
	number("totalStructuredMetadataBytesProcessed", s.GetStructuredMetadataBytesProcessed())
	b = append(b, `},"querier":{`...)
	store(false)
	b = append(b, `},"ingester":{`...)
	number("totalReached", uint64(s.GetSources()))
	number("totalChunksMatched", 0)
	number("totalBatches", 0)
	number("totalLinesSent", s.GetEntriesReturned())
	b = append(b, ',')
	store(true)
	b = append(b, `},"cache":{`...)
	for _, name := range []string{"chunk", "index", "result", "statsResult", "volumeResult", "seriesResult", "labelResult", "instantMetricResult"} {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = appendString(b, name)
		if c := s.GetResultCache(); name == "result" && c.GetRequested() > 0 {
			b = append(b, ":{"...)
			number("entriesFound", c.GetFound())
			number("entriesRequested", c.GetRequested())
			number("entriesStored", c.GetStored())
			number("bytesReceived", c.GetBytesFound())
			number("bytesSent", c.GetBytesStored())
			number("requests", 1)
			number("downloadTime", 0)
			number("queryLengthServed", uint64(c.GetLengthFound().AsDuration()))
			b = append(b, '}')
			continue
		}
		b = append(b, `:{"entriesFound":0,"entriesRequested":0,"entriesStored":0,"bytesReceived":0,"bytesSent":0,"requests":0,"downloadTime":0}`...)
	}
	return append(b, `},"index":{"totalChunks":0,"postFilterChunks":0,"shardsDuration":0}}`...)
}
