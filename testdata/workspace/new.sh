#!/bin/bash

# New script file
