package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// definition is one deployed process: version 1, in no tenant.
type definition struct {
	key     int64
	id, xml string
}

func definitions(folder string) ([]definition, error) {
	if folder == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.bpmn"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var out []definition
	for i, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		out = append(out, definition{keyBase + 100 + int64(i), strings.TrimSuffix(filepath.Base(f), ".bpmn"), string(b)})
	}
	return out, nil
}

func (d definition) row() map[string]any {
	return map[string]any{"processDefinitionKey": strconv.FormatInt(d.key, 10), "processDefinitionId": d.id, "name": d.id,
		"version": 1, "tenantId": "<default>", "resourceName": d.id + ".bpmn", "hasStartForm": false}
}

func (e *engine) definition(q *http.Request) (definition, bool) {
	k, _ := strconv.ParseInt(q.PathValue("key"), 10, 64)
	i := slices.IndexFunc(e.deployed, func(d definition) bool { return d.key == k })
	if i < 0 {
		return definition{}, false
	}
	return e.deployed[i], true
}

// search answers pages by key; of the sort only the direction is heeded. Each process has one version, so filters
// for the latest change nothing. The cursor is the number of rows before.
func (e *engine) search(q *http.Request) map[string]any {
	var a struct {
		Filter struct {
			Key string `json:"processDefinitionKey"`
		} `json:"filter"`
		Sort []struct {
			Order string `json:"order"`
		} `json:"sort"`
		Page struct {
			Limit int    `json:"limit"`
			After string `json:"after"`
		} `json:"page"`
	}
	a.Page.Limit = 100
	_ = json.NewDecoder(q.Body).Decode(&a)
	all := slices.Clone(e.deployed)
	if a.Filter.Key != "" {
		all = slices.DeleteFunc(all, func(d definition) bool { return strconv.FormatInt(d.key, 10) != a.Filter.Key })
	}
	if len(a.Sort) > 0 && strings.EqualFold(a.Sort[0].Order, "desc") {
		slices.Reverse(all)
	}
	from, _ := strconv.Atoi(a.Page.After)
	from = max(0, min(from, len(all)))
	to := max(from, min(from+a.Page.Limit, len(all)))
	rows := []any{}
	for _, d := range all[from:to] {
		rows = append(rows, d.row())
	}
	page := map[string]any{"totalItems": len(all), "hasMoreTotalItems": false}
	if len(rows) > 0 {
		page["startCursor"], page["endCursor"] = strconv.Itoa(from), strconv.Itoa(to)
	}
	return map[string]any{"items": rows, "page": page}
}
