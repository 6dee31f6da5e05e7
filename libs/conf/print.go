package conf

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes the configuration in effect as YAML that Load accepts, except for secrets, which
// are redacted.
func (s *Set) Print(w io.Writer) error {
	n, err := node(s.root)
	if err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return err
	}
	return enc.Close()
}

// Usage writes the help text: every flag, grouped by module, with its default.
func (s *Set) Usage(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Usage: %s [flags]\n", s.opts.Name)
	if s.opts.About != "" {
		fmt.Fprintf(&b, "\n%s\n", s.opts.About)
	}
	b.WriteString("\nGeneral:\n")
	usageLine(&b, "--config=FILE", "Configuration file (YAML).", s.opts.EnvPrefix+"_CONFIG", "")
	usageLine(&b, "--print-config", "Print the configuration in effect and exit.", "", "")
	usageLine(&b, "--version", "Print the version and exit.", "", "")
	usageLine(&b, "--help", "Print this text and exit.", "", "")
	for i, group := range s.groups() {
		if i > 0 || group.name != "" {
			fmt.Fprintf(&b, "\n%s:\n", group.name)
		}
		for _, f := range group.fields {
			if f.yamlOnly {
				fmt.Fprintf(&b, "  %s\n        %s Only in the configuration file.\n", f.path, f.help)
				continue
			}
			help := f.help
			if f.enum != nil {
				help += " One of " + strings.Join(f.enum, ", ") + "."
			}
			flags := ""
			for _, a := range s.aliases[f.path] {
				flags += "--" + a + ", "
			}
			for j, name := range f.flagNames() {
				if j == int(partFile) {
					usageLine(&b, "--"+name+"=FILE", "File to read it from.", f.envNames()[j], "")
					continue
				}
				flag := flags + "--" + name
				if !f.isBool() {
					flag += "=" + strings.ToUpper(placeholder(f))
				}
				usageLine(&b, flag, help, f.env, f.initial)
			}
		}
	}
	fmt.Fprintf(&b, "\nThe configuration file overrides the defaults, the environment the file, flags the environment.\n")
	_, err := w.Write(b.Bytes())
	return err
}

func placeholder(f *field) string {
	if f.enum != nil {
		return "text"
	}
	return f.typeName()
}

func usageLine(b *bytes.Buffer, flag, help, env, initial string) {
	fmt.Fprintf(b, "  %s\n        %s", flag, help)
	var notes []string
	if initial != "" {
		notes = append(notes, "default "+initial)
	}
	if env != "" {
		notes = append(notes, "env "+env)
	}
	if len(notes) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(notes, "; "))
	}
	b.WriteByte('\n')
}

type group struct {
	name   string
	fields []*field
}

// groups are the fields by module in the order of the struct, those of no module first.
func (s *Set) groups() []group {
	all := []group{{}}
	index := map[string]int{"": 0}
	for _, f := range s.fields {
		i, ok := index[f.section]
		if !ok {
			i = len(all)
			index[f.section] = i
			all = append(all, group{name: f.section})
		}
		all[i].fields = append(all[i].fields, f)
	}
	if len(all[0].fields) == 0 {
		all = all[1:]
	}
	return all
}

// Reference writes the reference page in Markdown: one table per module.
func (s *Set) Reference(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Configuration of %s\n\n", s.opts.Name)
	fmt.Fprintf(&b, "<!-- Generated from the configuration structs. Do not edit. -->\n\n")
	fmt.Fprintf(&b, "Every key can be set in the YAML file (`--config`, or `%[1]s_CONFIG`), in the environment and by a flag. "+
		"The file overrides the defaults, the environment the file, flags the environment. "+
		"For the key `section.some_key` the variable is `%[1]s_SECTION_SOME_KEY`, the flag `--section.some-key`. "+
		"An unknown key is an error. A secret can also be read from a file, named by the key with `_file` appended.\n", s.opts.EnvPrefix)
	for _, g := range s.groups() {
		name := g.name
		if name == "" {
			name = "general"
		}
		fmt.Fprintf(&b, "\n## %s\n\n| Key | Type | Default | Meaning |\n|---|---|---|---|\n", name)
		for _, f := range g.fields {
			initial := ""
			if f.initial != "" {
				initial = "`" + f.initial + "`"
			}
			help := f.help
			for _, a := range s.aliases[f.path] {
				help += " Also `--" + a + "`."
			}
			if f.yamlOnly {
				help += " Only in the file."
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.path, f.typeName(), cell(initial), cell(help))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func cell(s string) string { return strings.ReplaceAll(strings.TrimSpace(s), "|", `\|`) }
