package pipeline

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"text/template"

	"github.com/Masterminds/sprig/v3"
	"go.yaml.in/yaml/v3"

	"github.com/weir-logs/weir/services/agent/config/node"
)

// lineTemplate is a Go template over the extracted values. It is safe for
// concurrent use.
type lineTemplate struct {
	t     *template.Template
	plain string // what there is, if it has no actions
	isRaw bool
}

// maxTemplateOutput bounds what a template may write.
const maxTemplateOutput = 1 << 20

var errTemplateSize = errors.New("the template writes more than 1 MiB")

// functions are those of Promtail's templates: sprig's and its own, which win.
var functions = sync.OnceValue(func() template.FuncMap {
	f := sprig.TxtFuncMap()
	for name, fn := range map[string]any{
		"ToLower": strings.ToLower, "ToUpper": strings.ToUpper,
		"Replace": strings.Replace, "Trim": strings.Trim, "TrimLeft": strings.TrimLeft, "TrimRight": strings.TrimRight,
		"TrimPrefix": strings.TrimPrefix, "TrimSuffix": strings.TrimSuffix, "TrimSpace": strings.TrimSpace,
		"Hash": func(salt, s string) string {
			sum := sha3.Sum256([]byte(salt + s))
			return hex.EncodeToString(sum[:])
		},
		"Sha2Hash": func(salt, s string) string {
			sum := sha256.Sum256([]byte(salt + s))
			return hex.EncodeToString(sum[:])
		},
		"regexReplaceAll": func(re, s, with string) (string, error) {
			r, err := cachedRegexp(re)
			if err != nil {
				return "", err
			}
			return r.ReplaceAllString(s, with), nil
		},
		"regexReplaceAllLiteral": func(re, s, with string) (string, error) {
			r, err := cachedRegexp(re)
			if err != nil {
				return "", err
			}
			return r.ReplaceAllLiteralString(s, with), nil
		},
		"repeat": func(n int, s string) (string, error) {
			if n < 0 || len(s) > 0 && n > maxTemplateOutput/len(s) {
				return "", errTemplateSize
			}
			return strings.Repeat(s, n), nil
		},
	} {
		f[name] = fn
	}
	return f
})

var regexps struct {
	sync.Mutex
	m map[string]*regexp.Regexp
}

func cachedRegexp(s string) (*regexp.Regexp, error) {
	regexps.Lock()
	defer regexps.Unlock()
	if re := regexps.m[s]; re != nil {
		return re, nil
	}
	re, err := regexp.Compile(s)
	if err != nil {
		return nil, err
	}
	if regexps.m == nil || len(regexps.m) >= 1000 { // they may be made of values
		regexps.m = map[string]*regexp.Regexp{}
	}
	regexps.m[strings.Clone(s)] = re
	return re, nil
}

func newTemplate(text string) (*lineTemplate, error) {
	if !strings.Contains(text, "{{") {
		return &lineTemplate{plain: text, isRaw: true}, nil
	}
	t, err := template.New("").Funcs(functions()).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "template: :"))
	}
	return &lineTemplate{t: t}, nil
}

// limitedBuffer is a buffer that refuses to grow without end.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxTemplateOutput {
		return 0, errTemplateSize
	}
	return b.Buffer.Write(p)
}

// render runs the template. value is {{ .Value }}, where there is one.
func (t *lineTemplate) render(r *Runner, s *state, value string, has bool) (out string, err error) {
	if t.isRaw {
		return t.plain, nil
	}
	defer func() {
		if p := recover(); p != nil { // of a function of the library's
			err = fmt.Errorf("template: %v", p)
		}
	}()
	data := make(map[string]any, len(s.values)+len(s.base.Labels())+2)
	for _, l := range s.base.Labels() {
		if _, known := r.p.slotOf[l.Name]; !known {
			data[l.Name] = l.Value
		}
	}
	for i, name := range r.p.slots {
		if v, ok := s.text(i); ok {
			data[name] = v
		}
	}
	if has {
		data["Value"] = value
	}
	data["Entry"] = string(s.line)
	var buf limitedBuffer
	if err := t.t.Execute(&buf, data); err != nil {
		return "", err
	}
	return buf.String(), nil
}

// templateStage sets an extracted value to what a template makes.
type templateStage struct {
	slot int
	t    *lineTemplate
}

func buildTemplate(c *compiler, body *yaml.Node, path string) {
	var cfg struct {
		Source   string  `yaml:"source"`
		Template *string `yaml:"template"`
	}
	c.decode(body, path, &cfg)
	if cfg.Source == "" {
		c.ps.Fail(body, node.Join(path, "source"), "is missing: which extracted value to set")
	}
	if cfg.Template == nil {
		c.ps.Fail(body, node.Join(path, "template"), "is missing")
		return
	}
	t, err := newTemplate(*cfg.Template)
	if err != nil {
		c.ps.Fail(body, node.Join(path, "template"), "%v", err)
		return
	}
	if cfg.Source != "" {
		c.add(&templateStage{c.slot(cfg.Source), t})
	}
}

func (t *templateStage) run(r *Runner, s *state, at int) verdict {
	v, has := s.text(t.slot)
	out, err := t.t.render(r, s, v, has)
	if err != nil {
		return r.fail(at)
	}
	if out == "" {
		s.values[t.slot] = value{}
		return keep
	}
	s.setText(t.slot, out)
	return keep
}
