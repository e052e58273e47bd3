// Prints what vkcri.watcher.podhash stands on, from Kubernetes' own packages: podtypes.json, the types of a Pod as the
// kubelet hashes it (no argument), or the UID that it gives each manifest (NODE FILE...), "UID<tab>FILE" a line, which
// is uids.tsv. Not built by any verb: put it into a module with the go.mod that tests/cluster/module.py writes, and
//
//	go run -mod=mod . > podtypes.json; go run -mod=mod . node-1 *.yaml *.json > uids.tsv
package main

// Every type is written once: a structure as its fields, each with its JSON name, any other named type as what it is.

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/util/hash"
)

var types = map[string]any{}

func walk(t reflect.Type, tagged reflect.Type) {
	name := t.String()
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if t.Kind() == reflect.Map {
			walk(t.Key(), nil)
			if t.Name() != "" {
				types[name] = fmt.Sprintf("map[%s]%s", t.Key(), t.Elem())
			}
		}
		var next reflect.Type
		if tagged != nil && tagged.Kind() == t.Kind() {
			next = tagged.Elem()
		}
		walk(t.Elem(), next)
	case reflect.Struct:
		if _, found := types[name]; found {
			return
		}
		if name == "resource.Quantity" || name == "v1.Time" || name == "intstr.IntOrString" || name == "v1.FieldsV1" {
			return
		}
		fields := [][]string{}
		types[name] = fields
		for i := 0; i < t.NumField(); i++ {
			field := t.Field(i)
			key := "?"
			var next reflect.Type
			if tagged != nil && tagged.Kind() == reflect.Struct {
				if found, ok := tagged.FieldByName(field.Name); ok {
					key = strings.Split(found.Tag.Get("json"), ",")[0]
					next = found.Type
				}
			}
			fields = append(fields, []string{field.Name, key, field.Type.String()})
			types[name] = fields
			walk(field.Type, next)
		}
	default:
		if name != t.Kind().String() {
			types[name] = t.Kind().String()
		}
	}
}

func main() {
	if len(os.Args) == 1 {
		walk(reflect.TypeOf(api.Pod{}), reflect.TypeOf(v1.Pod{}))
		out, _ := json.Marshal(types)
		fmt.Println(string(out))
		return
	}
	for _, file := range os.Args[2:] {
		data, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		text, err := utilyaml.ToJSON(data)
		if err != nil {
			panic(err)
		}
		obj, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), text)
		if err != nil {
			panic(fmt.Sprint(file, err))
		}
		hasher := fnv.New128a()
		hash.DeepHashObject(hasher, obj)
		fmt.Fprintf(hasher, "host:%s", os.Args[1])
		fmt.Fprintf(hasher, "file:%s", file)
		fmt.Printf("%s\t%s\n", hex.EncodeToString(hasher.Sum(nil)), file)
	}
}
