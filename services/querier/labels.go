package querier

import (
	"strings"

	"github.com/weir-logs/weir/libs/model"
)

// labelMap returns labels as the API has them: values that are not UTF-8 cannot be
// said there, so what is wrong in them becomes U+FFFD.
func labelMap(ls model.Labels) map[string]string {
	if len(ls) == 0 {
		return nil
	}
	m := make(map[string]string, len(ls))
	for _, l := range ls {
		m[l.Name] = strings.ToValidUTF8(l.Value, "\uFFFD")
	}
	return m
}
