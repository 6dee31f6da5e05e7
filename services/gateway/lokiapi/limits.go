package lokiapi

import (
	"encoding/json"
	"net/http"

	"github.com/weir-logs/weir/libs/conf"
	"github.com/weir-logs/weir/libs/discover"
	"github.com/weir-logs/weir/libs/limits"
)

// drilldownLimits tells Grafana's Logs Drilldown what it may ask for.
func (a *API) drilldownLimits(w http.ResponseWriter, r *http.Request) error {
	lim := a.limits(r)
	otlp, err := conf.Plain(lim.OTLPConfig)
	if err != nil {
		return err
	}
	b, err := json.Marshal(map[string]any{
		"limits": map[string]any{
			"discover_log_levels":         true,
			"discover_service_name":       discover.ServiceLabels(),
			"log_level_fields":            discover.LevelFields(),
			"max_entries_limit_per_query": lim.MaxQueryEntries,
			"max_line_size_truncate":      false,
			"max_query_bytes_read":        "0B",
			"max_query_length":            lim.MaxQueryRange.String(),
			"max_query_lookback":          "0s",
			"max_query_range":             "0s",
			"max_query_series":            lim.MaxQuerySeries,
			"metric_aggregation_enabled":  false,
			"otlp_config":                 otlp,
			"pattern_persistence_enabled": false,
			"query_timeout":               lim.QueryTimeout.String(),
			"retention_period":            lim.RetentionPeriod.String(),
			"retention_stream":            retentionStreams(lim),
			"volume_enabled":              true,
			"volume_max_series":           maxVolumes,
		},
		"pattern_ingester_enabled": true,
		"version":                  a.deps.Build.Version,
	})
	if err != nil {
		return err
	}
	writeJSON(w, b)
	return nil
}

type retentionStream struct {
	Period   string `json:"period"`
	Priority int    `json:"priority"`
	Selector string `json:"selector"`
}

func retentionStreams(lim limits.Limits) []retentionStream {
	out := []retentionStream{}
	for _, r := range lim.RetentionStream {
		out = append(out, retentionStream{r.Period.String(), r.Priority, r.Selector})
	}
	return out
}

// tenantLimits prints the limits of the tenant, as they stand in a configuration file.
func (a *API) tenantLimits(w http.ResponseWriter, r *http.Request) error {
	b, err := conf.EncodeYAML(a.limits(r))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(b) // the client is gone
	return nil
}
