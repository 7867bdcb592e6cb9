"""Answers POST /stocks from a dictionary: app.py PORT FILE."""

import sys
from datetime import datetime

import orjson
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import BaseModel


class Question(BaseModel):
    warehouseId: int
    skus: list[str]


app = FastAPI()
stock = {}


@app.post("/stocks")
async def stocks(question: Question):
    warehouse = question.warehouseId
    rows = []
    for sku in question.skus:
        if level := stock.get((warehouse, sku)):
            count, updated_at = level
            item = {"count": count, "type": "FIT", "updatedAt": updated_at}
            rows.append({"sku": sku, "warehouseId": warehouse, "items": [item]})
    return Response(orjson.dumps({"skus": rows}), media_type="application/json")


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as file:
        for line in file:
            warehouse, sku, count, updated_at = line.rstrip("\n").split("\t")
            stock[int(warehouse), sku] = int(count), datetime.fromisoformat(updated_at)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
