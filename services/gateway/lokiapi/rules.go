package lokiapi

import (
	"net/http"

	"github.com/weir-logs/weir/libs/rpcerr"
)

// ruleRoutes adds the handlers of rules to a mux. No process evaluates rules, so there
// are none; Grafana shows that rather than an error.
func (a *API) ruleRoutes(mux *http.ServeMux) {
	none := queries(func(http.ResponseWriter, *http.Request) error {
		return rpcerr.New(rpcerr.NotFound, "no rule groups found")
	})
	for _, root := range []string{"/loki/api/v1/rules", "/api/prom/rules"} {
		for _, path := range []string{"", "/{namespace}", "/{namespace}/{group}"} {
			mux.Handle("GET "+root+path, none)
		}
	}
	list := func(path, what string) {
		mux.Handle("GET "+path, queries(func(w http.ResponseWriter, _ *http.Request) error {
			writeJSON(w, []byte(`{"status":"success","data":{"`+what+`":[]},"errorType":"","error":""}`))
			return nil
		}))
	}
	list("/prometheus/api/v1/rules", "groups")
	list("/prometheus/api/v1/alerts", "alerts")
}
