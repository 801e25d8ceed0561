#!/bin/sh
echo amber
