// Answers POST /stocks from a map: main PORT FILE.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

type key struct {
	warehouse int64
	sku       string
}

type level struct {
	count     int
	updatedAt time.Time
}

type request struct {
	WarehouseID int64    `json:"warehouseId"`
	Skus        []string `json:"skus"`
}

type item struct {
	Count     int       `json:"count"`
	Type      string    `json:"type"`
	UpdatedAt time.Time `json:"updatedAt"`
}

type row struct {
	Sku         string `json:"sku"`
	WarehouseID int64  `json:"warehouseId"`
	Items       []item `json:"items"`
}

type response struct {
	Skus []row `json:"skus"`
}

func load(path string) (map[key]level, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	stock := make(map[key]level)
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		columns := strings.Split(lines.Text(), "\t")
		warehouse, err := strconv.ParseInt(columns[0], 10, 64)
		if err != nil {
			return nil, err
		}
		count, err := strconv.Atoi(columns[2])
		if err != nil {
			return nil, err
		}
		updatedAt, err := time.Parse(time.RFC3339, columns[3])
		if err != nil {
			return nil, err
		}
		stock[key{warehouse, columns[1]}] = level{count, updatedAt}
	}
	return stock, lines.Err()
}

func main() {
	stock, err := load(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/stocks", func(w http.ResponseWriter, r *http.Request) {
		var asked request
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		rows := make([]row, 0, len(asked.Skus))
		for _, sku := range asked.Skus {
			if found, ok := stock[key{asked.WarehouseID, sku}]; ok {
				items := []item{{found.count, "FIT", found.updatedAt}}
				rows = append(rows, row{sku, asked.WarehouseID, items})
			}
		}
		body, err := json.Marshal(response{rows})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
